"""Who is linked to whom, as it stands now: what the detector found, what people said, and which groups follow.

Law: the register decides nothing about a request. It is one small document beside the ledger, which every worker
follows; what it says becomes groups, and a group is one more subject to charge.

| module | holds |
| --- | --- |
| `entries` | the values: found groups, people's words, changes |
| `found`, `said` | what becomes of the register when the detector, or a person, speaks |
| `in_force` | which groups follow from it, and from the policy, at an instant: the law of who goes before whom |
| `written` | the register as a document |
| `keeping` | changing it and following it in a store |
| `groups` | the groups in force in one worker |
"""

from headgate.register.entries import EMPTY, Change, Linked, Register, Said, States
from headgate.register.groups import Groups, states_of
from headgate.register.keeping import Following, Registry

__all__ = [
    "EMPTY", "Change", "Following", "Groups", "Linked", "Register", "Registry", "Said", "States", "states_of",
]  # fmt: skip
