"""Real servers for tests, and a proxy that spoils what goes to them and comes back."""
