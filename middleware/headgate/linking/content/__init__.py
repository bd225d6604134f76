"""One operator's prompts behind many keys.

Law: keys are held to be one operator's for what they ask, not for being busy at the same time. Prompts become tokens
(`wording`), tokens meet (`postings`, `meetings`), pairs are weighed (`weighing`), in the light of third keys
(`support`), and come into groups that do not chain (`groups`). `telling` says why.
"""

from headgate.linking.content.content import Content

__all__ = ["Content"]
