"""From the text of a policy file to the values that decide."""
