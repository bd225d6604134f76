"""Keys are issued and revoked here: the one writer of a file of keys.

Law: a file is changed as its owner would change it by hand. What stands in it, comments and order and line ends,
stays; a line is added, or a word to a line. What comes out is read back before it takes the place of the old file, in
one step, and two who write at once write one after the other. The secret is made here, handed out once, never kept.
"""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from headgate.directory import record, sheet
from headgate.directory.keys_file import PURPOSE
from headgate.directory.record import Unfit
from headgate.directory.sheet import text_of
from headgate.directory.table import VERSION, Entry, Table, parse
from headgate.document import Branch, Node, Row, Scalar
from headgate.errors import IdentityError
from headgate.nearest import suggestion
from headgate.quota.identify import digest

BLANK = f"""\
# Who may call. `headgate key new --org ORG --plan PLAN` adds a key and prints its secret once; what stands here is
# the secret's keyed digest, which opens nothing without the pepper.
headgate-keys: {VERSION}
orgs:
keys:
"""

PATIENCE = 10.0
"""Seconds to wait for another writer. One writes for milliseconds."""

SECRET_BYTES = 32
"""Bytes drawn for a secret: more than anybody can guess, 43 characters to write."""


class Issued(NamedTuple):
    """A new key: its public id, its secret, the plan it has, and whether its org was written down with it."""

    key: str
    secret: str
    plan: str
    new_org: bool


def made(path: Path) -> bool:
    """Make an empty file of keys, mode 0600; False where there is a file already, which is left alone."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return False
    except OSError as fault:
        raise IdentityError(f"{path}: cannot be made: {fault.strerror}") from None
    with os.fdopen(file, "w", encoding="utf-8") as writing:
        writing.write(BLANK)
    return True


def issue(path: Path, org: str, plan: str, pepper: bytes, created: str) -> Issued:
    """Add a new key of an org to the file and answer its secret, which stands nowhere else.

    `plan`: "" for the org's own; for an org that the file does not have yet, the plan that it is written down with.
    `created`: the day, as 2026-11-24. The file is made if there is none. Raises IdentityError where the file or a
    value cannot be used; nothing is changed then.
    """
    for what, text in (("org", org), *([("plan", plan)] if plan else [])):
        try:
            record.named(text)
        except Unfit as fault:
            raise IdentityError(f"the {what} {fault}") from None
    secret, key = "hg_" + secrets.token_urlsafe(SECRET_BYTES), "k_" + secrets.token_hex(6)
    mark = digest(pepper, PURPOSE, secret.encode()).hex()

    def added(text: str, before: Table) -> str:
        known = before.orgs.get(org)
        own = plan if known is not None and plan not in {"", known.plan} else ""
        fields = {"key": key, "org": _written(org), "plan": _written(own), "digest": mark, "created": created}
        line = ", ".join(f"{name}: {value}" for name, value in fields.items() if value)
        if known is None:
            text = _with_line(text, "orgs", f"{_written(org)}: {{{f'plan: {_written(plan)}' if plan else ''}}}")
        return _with_line(text, "keys", f"- {{{line}}}")

    def as_meant(before: Table, after: Table) -> bool:
        *kept, new = after.entries or before.entries
        wanted = plan or (before.orgs[org].plan if org in before.orgs else "")
        return _marks(kept) == _marks(before.entries) and (new.principal.key, new.principal.plan) == (key, wanted)

    made(path)
    before = _changed(path, added, as_meant)
    known = before.orgs.get(org)
    return Issued(key, secret, plan or (known.plan if known else ""), known is None)


def revoke(path: Path, key: str, day: str) -> bool:
    """Mark a key as revoked on a day; False if it was before. It is nobody's from the next look at the file on.

    Raises IdentityError for a key that the file does not have.
    """

    def marked(text: str, before: Table) -> str:
        numbers = [at for at, entry in enumerate(before.entries) if entry.principal.key == key and not entry.revoked]
        return _with_field(text, numbers[0], f"revoked: {day}") if numbers else text

    def as_meant(before: Table, after: Table) -> bool:
        wanted = [entry.digest for entry in before.entries if entry.revoked or entry.principal.key == key]
        return [entry.digest for entry in after.entries if entry.revoked] == wanted

    before = _changed(path, marked, as_meant)
    entry = next((entry for entry in before.entries if entry.principal.key == key), None)
    if entry is None:
        hint = suggestion(key, [entry.principal.key for entry in before.entries])
        raise IdentityError(f"{path}: has no key `{key}`{hint}")
    return not entry.revoked


def _marks(entries: Iterable[Entry]) -> list[object]:
    """All that is said of keys, save where it stands."""
    return [(entry.principal, entry.digest, entry.created, entry.revoked) for entry in entries]


def _changed(path: Path, change: Callable[[str, Table], str], as_meant: Callable[[Table, Table], bool]) -> Table:
    """Replace the file by what `change` makes of its text, if that reads as it was meant; what it said before."""
    real = path.resolve()  # a link stays a link: what it leads to is replaced
    with _alone_in(real.parent):
        text = text_of(real)
        before = parse(text, str(path))
        try:
            after = change(text, before)
            fine = after == text or as_meant(before, parse(after, str(path)))
        except IdentityError:
            fine = False
        if not fine:
            raise IdentityError(
                f"{path}: is written in a way that cannot be added to; write `keys` as lines that begin with `- {{`, "
                "and `orgs` as one line an org"
            )
        if after != text:
            _replace(real, after)
        return before


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """One writer at a time in a folder. The lock is the folder's own: no file of it is left behind."""
    import fcntl  # not at the top: reading keys needs none, and not every system has it

    try:
        handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as fault:
        raise IdentityError(f"{folder}: cannot be opened: {fault.strerror}") from None
    try:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise IdentityError(f"{folder}: another program writes keys for over {PATIENCE:g} s") from None
                time.sleep(0.01)
        yield
    finally:
        os.close(handle)


def _replace(path: Path, text: str) -> None:
    """Write beside the file and rename: a reader sees the old one or the new one, whole, also after a power cut."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        old = path.stat()
        try:
            file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(file, "wb") as writing:
                ours = os.fstat(file)
                if (old.st_uid, old.st_gid) != (ours.st_uid, ours.st_gid):
                    os.fchown(file, old.st_uid, old.st_gid)  # or the service could no longer read its own keys
                os.fchmod(file, stat.S_IMODE(old.st_mode))
                writing.write(text.encode())
                writing.flush()
                os.fsync(file)
            draft.replace(path)
            _settled_on_disk(path.parent)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as fault:
        raise IdentityError(f"{path}: cannot be written: {fault.strerror}") from None


def _settled_on_disk(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # some file systems have no way to do it; the rename stands all the same
            os.fsync(handle)
    finally:
        os.close(handle)


def _written(text: str) -> str:
    """A text as YAML shows it: plain where it can only be read one way."""
    if not text:
        return ""
    plain = text.isascii() and text.replace("_", "").replace("-", "").replace(".", "").isalnum()
    return text if plain and text[0].isalnum() and text != "null" else "'" + text.replace("'", "''") + "'"


def _with_line(text: str, name: str, line: str) -> str:
    """The text with one more line under `orgs` or `keys`."""
    end = "\r\n" if "\r\n" in text else "\n"
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith(("\n", "\r")):
        lines[-1] += end
    found = _fields(text).get(name)
    if found is None:
        return "".join([*lines, f"{name}:{end}", f"  {line}{end}"])
    at, node = found
    first = _first(node)
    if first is None:
        # `orgs:` or `orgs: {}`: the name's line is written anew, and a comment at its end is kept.
        rest = lines[node.end_line - 1][node.end_column - 1 :].strip()
        lines[at.line - 1] = f"{name}:{'  ' + rest if rest.startswith('#') else ''}{end}"
        lines.insert(at.line, f"  {line}{end}")
        return "".join(lines)
    begun = lines[first.line - 1]
    indent = " " * (len(begun) - len(begun.lstrip(" ")))
    lines.insert(_last_line(node), f"{indent}{line}{end}")
    return "".join(lines)


def _fields(text: str) -> Mapping[str, tuple[Scalar, Node]]:
    root = sheet.read(text, "")
    return root.entries if isinstance(root, Branch) else {}


def _first(node: Node) -> Node | None:
    """The first name of a map, the first item of a list; None where nothing stands."""
    if isinstance(node, Branch):
        return next((name for name, _ in node.entries.values()), None)
    return node.items[0] if isinstance(node, Row) and node.items else None


def _last_line(node: Node) -> int:
    """The last line on which something of it stands; the end of a block lies past its comments."""
    if isinstance(node, Branch) and not node.flow:
        return max([node.line, *(_last_line(inner) for _, inner in node.entries.values())])
    if isinstance(node, Row) and not node.flow:
        return max([node.line, *map(_last_line, node.items)])
    return node.end_line


def _with_field(text: str, number: int, written: str) -> str:
    """The text with one more field in the key of that number."""
    end = "\r\n" if "\r\n" in text else "\n"
    lines = text.splitlines(keepends=True)
    _, keys = _fields(text)["keys"]
    assert isinstance(keys, Row), "the key of that number was read from it"
    item = keys.items[number]
    if isinstance(item, Branch) and item.flow:
        line, column = item.end_line - 1, item.end_column - 2
        before = lines[line][:column]
        comma = "" if before.rstrip().endswith((",", "{")) else ", "
        lines[line] = f"{before.rstrip()}{comma or ' '}{written}{lines[line][column:]}"
    else:
        lines.insert(_last_line(item), " " * (item.column - 1) + written + end)
    return "".join(lines)
