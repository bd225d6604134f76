"""A fire drill: labelled traffic to try policies and linking on, before anybody real does.

Law: a drill knows nothing of what finds attackers. It draws who asks for what and when, from real traffic's figures
and a grammar of its own; it imports nothing of linking, so that a detector is never tested by its own model.
"""
