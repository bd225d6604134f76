"""The register as a document: JSON, which a program refuses if anything in it is odd.

Law: what was written is read back as it was; what is torn, foreign or newer is refused as a whole, with what to do,
and nothing is guessed. Whoever refuses it goes on with what it had. A value is a list of its fields, in their order.
"""

from __future__ import annotations

import json

import msgspec

from headgate.errors import StoreError
from headgate.register.entries import EMPTY, Register

NAME = "groups"
"""The document's name."""

FORMAT = 1
"""Its form; one that is newer is refused."""

MARK = "headgate-groups"

_marked = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_form = msgspec.json.Decoder(int).decode
_register = msgspec.json.Decoder(Register).decode


def written(register: Register) -> str:
    """The register as text, the same for the same register. Half of a surrogate pair becomes a question mark.

    >>> read(written(Register())) == Register()
    True
    """
    text = json.dumps({MARK: FORMAT, "register": register}, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "replace").decode()


def read(text: str) -> Register:
    """The register that a text holds; the empty text holds an empty one.

    Raises StoreError for one that is torn, or was written by something else.

    >>> read('{"headgate-groups":2}')
    Traceback (most recent call last):
    headgate.errors.StoreError: the document `groups` was written by a newer headgate (form 2, this one knows 1): upgrade
    """  # noqa: E501
    if not text:
        return EMPTY
    try:
        whole = _marked(text)
        form = _form(whole[MARK])
    except (msgspec.MsgspecError, KeyError, RecursionError, UnicodeError):
        raise _refused("it is torn, or something else wrote it") from None
    if form > FORMAT:
        raise StoreError(
            f"the document `{NAME}` was written by a newer headgate (form {form}, this one knows {FORMAT}): upgrade",
            transient=False,
        )
    try:
        return _register(whole["register"])
    except (msgspec.MsgspecError, KeyError, RecursionError) as odd:
        raise _refused(f"a part of it is odd ({str(odd)[:120]})") from None


def _refused(why: str) -> StoreError:
    return StoreError(
        f"the document `{NAME}` cannot be read: {why}. Restore the store from a backup; or remove the document "
        f"(SQLite: DELETE FROM documents WHERE name = '{NAME}'; Redis: DEL hn{{{NAME}}}), and what was linked begins "
        "anew",
        transient=False,
    )
