"""The key directory: the file, the app's own function, and the one writer."""

from __future__ import annotations

import asyncio
import hashlib
import multiprocessing
import os
import stat
import threading
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from headgate.directory import Callback, KeysFile, Nobody, issue, open_directory
from headgate.directory.callback import GUESSES
from headgate.directory.table import parse
from headgate.errors import DirectoryUnavailable, IdentityError
from headgate.quota.facts import Principal
from headgate.quota.identify import digest

PEPPER = b"a pepper of more than sixteen"
SECRET = "hg_" + "canary-of-the-directory-tests-0123456789"
HEAD = "headgate-keys: v1\norgs:\n  acme: {plan: build}\n"


def marked(secret: str, pepper: bytes = PEPPER) -> str:
    return digest(pepper, b"key", secret.encode()).hex()


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def keys(path: Path, *lines: str, orgs: str = HEAD) -> Path:
    return written(path, orgs + "keys:\n" + "".join(f"  - {line}\n" for line in lines))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return keys(tmp_path / "keys.yaml", f"{{key: k_1, org: acme, digest: {marked(SECRET)}}}")


# --- the file


def test_a_secret_is_known_by_its_keyed_digest(file: Path) -> None:
    directory = KeysFile(file, [PEPPER])
    assert directory.known(SECRET.encode()) == Principal("k_1", "acme", "build")
    assert directory.known(b"hg_another") is None
    assert asyncio.run(directory.find(SECRET.encode())) is directory.known(SECRET.encode())


def test_a_digest_may_be_written_whole_or_cut(tmp_path: Path) -> None:
    import hmac

    message = b"".join(len(part).to_bytes(4, "big") + part for part in (b"key", SECRET.encode()))
    whole = hmac.new(PEPPER, message, hashlib.sha256).hexdigest()
    directory = KeysFile(keys(tmp_path / "keys.yaml", f"{{key: k_1, org: acme, digest: {whole.upper()}}}"), [PEPPER])
    assert directory.known(SECRET.encode()) is not None


def test_a_key_made_under_the_pepper_before_is_still_known(file: Path) -> None:
    directory = KeysFile(file, [b"the new pepper, long enough", PEPPER])
    assert directory.known(SECRET.encode()) is not None
    assert KeysFile(file, [b"the new pepper, long enough"]).known(SECRET.encode()) is None


def test_a_key_has_what_its_org_has_and_its_own_beside(tmp_path: Path) -> None:
    orgs = (
        "headgate-keys: v1\norgs:\n  acme: {plan: build, anchor: 2026-01-31, accepted: '2026-01', "
        "traits: {payment: pm_1, device: d1}, claims: {project: p1}, tags: [beta]}\n"
    )
    file = keys(
        tmp_path / "keys.yaml",
        f"{{key: k_1, org: acme, digest: {marked(SECRET)}, plan: scale, traits: {{device: d2}}, tags: [batch]}}",
        orgs=orgs,
    )
    assert KeysFile(file, [PEPPER]).known(SECRET.encode()) == Principal(
        "k_1",
        "acme",
        "scale",
        anchor=int(datetime(2026, 1, 31, tzinfo=UTC).timestamp()) * 1_000_000,
        traits={"payment": "pm_1", "device": "d2"},
        claims={"project": "p1"},
        tags=frozenset({"beta", "batch"}),
        accepted="2026-01",
    )


def test_words_that_yaml_would_turn_into_something_else_stay_words(tmp_path: Path) -> None:
    orgs = "headgate-keys: v1\norgs:\n  no: {plan: on, tags: [1_000, 0o17, 12:30:00]}\n"
    file = keys(tmp_path / "keys.yaml", f"{{key: k_1, org: no, digest: {marked(SECRET)}}}", orgs=orgs)
    found = KeysFile(file, [PEPPER]).known(SECRET.encode())
    assert found is not None
    assert (found.org, found.plan, found.tags) == ("no", "on", {"1_000", "0o17", "12:30:00"})


def test_a_revoked_key_is_nobodys(tmp_path: Path) -> None:
    line = f"{{key: k_1, org: acme, digest: {marked(SECRET)}, revoked: 2026-11-24}}"
    directory = KeysFile(keys(tmp_path / "keys.yaml", line), [PEPPER])
    assert directory.known(SECRET.encode()) is None
    assert directory.principal("k_1") is not None


def test_the_same_object_is_answered_while_a_record_is_unchanged(file: Path) -> None:
    directory = KeysFile(file, [PEPPER])
    first = directory.known(SECRET.encode())
    for number in range(3):
        text = file.read_text().replace(
            "keys:\n", f"keys:\n  - {{key: k_{number + 5}, org: acme, digest: {number:032}}}\n"
        )
        written(file, text)
        assert directory.refresh()
        assert directory.known(SECRET.encode()) is first
    written(file, file.read_text().replace("plan: build", "plan: scale"))
    assert directory.refresh()
    changed = directory.known(SECRET.encode())
    assert changed is not first and changed is not None and changed.plan == "scale"


def test_an_unchanged_file_is_not_read_again(file: Path) -> None:
    directory = KeysFile(file, [PEPPER])
    assert not directory.refresh()
    os.utime(file, ns=(1, 1))
    assert directory.refresh()


def test_a_file_that_breaks_keeps_everybody_and_says_so_until_it_is_mended(file: Path) -> None:
    directory, good = KeysFile(file, [PEPPER]), file.read_text()
    written(file, good + "  - {key: k_1}\n")
    for _ in range(2):
        with pytest.raises(IdentityError, match=r"keys\.yaml:6: a key has no `org`"):
            directory.refresh()
        assert directory.known(SECRET.encode()) is not None
    file.unlink()
    with pytest.raises(IdentityError, match="no such file"):
        directory.refresh()
    assert directory.known(SECRET.encode()) is not None
    written(file, good)
    assert directory.refresh()
    assert not directory.refresh()


def test_all_faults_are_told_at_once_with_their_lines(tmp_path: Path) -> None:
    file = written(
        tmp_path / "keys.yaml",
        "headgate-keys: v1\n"
        "orgs:\n"
        "  acme: {plann: build, anchor: yesterday}\n"
        "keys:\n"
        f"  - {{key: k_1, org: acne, digest: {32 * '0'}}}\n"
        "  - {key: k_2, org: acme, digest: xyz}\n"
        f"  - {{key: hg_secret, org: acme, digest: {32 * '1'}, tags: batch}}\n"
        f"  - {{key: k_3, org: acme, digest: {32 * '2'}}}\n"
        f"  - {{key: k_3, org: acme, digest: {32 * '2'}, created: [1]}}\n"
        "  - just text\n"
        "kyes: []\n",
    )
    with pytest.raises(IdentityError) as caught:
        KeysFile(file, [PEPPER])
    assert [line.removeprefix(f"{file}:") for line in str(caught.value).splitlines()] == [
        "3: org `acme` has no `plann`; did you mean `plan`?",
        "3: `anchor` is neither a date (2026-01-31) nor an instant with its offset (2026-01-31T09:00:00Z)",
        "5: `org` is not declared under `orgs`; did you mean `acme`?",
        "6: `digest` is not 32 or 64 hex digits",
        "7: `key` is a secret (it begins with `hg_`): the public id stands here",
        "7: `tags` is a list, `[a, b]`",
        "9: `created` is a list, not a text",
        "10: a key is a text and should be a map, `name: value`",
        "10: a key has no `key`",
        "10: a key has no `org`",
        "10: a key has no `digest`",
        "11: the file has no `kyes`; did you mean `keys`?",
    ]


def test_two_keys_do_not_share_an_id_or_a_digest() -> None:
    lines = [f"- {{key: k_1, org: acme, digest: {digits}}}\n" for digits in (32 * "a", 64 * "A")]
    with pytest.raises(IdentityError) as caught:
        parse(HEAD + "keys:\n" + "".join(lines))
    assert str(caught.value).splitlines() == [
        "keys.yaml:6: `key` is also that of the key in line 5",
        "keys.yaml:6: `digest` is also that of the key in line 5",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "keys.yaml:1: a file of keys begins with `headgate-keys: v1`"),
        ("headgate: v1\n", "keys.yaml:1: the file has no `headgate`; did you mean `headgate-keys`?"),
        ("headgate-keys: v2\n", "keys.yaml:1: a file of keys begins with `headgate-keys: v1`"),
        ("headgate-keys: v1\norgs: &a {}\nkeys: *a\n", "keys.yaml:2: the anchor `&a`"),
        ("headgate-keys: !!str v1\n", "keys.yaml:1: the tag `tag:yaml.org,2002:str`"),
        ("headgate-keys: v1\norgs: {a: {}}\norgs: {b: {}}\n", "keys.yaml:3: `orgs` stands here twice"),
        ("headgate-keys: v1\norgs: {a: {}\n", "keys.yaml:3: "),
        ("headgate-keys: v1\n---\nheadgate-keys: v1\n", "keys.yaml:2: a second document begins"),
        ("headgate-keys: v1\norgs: " + 9 * "[" + 9 * "]" + "\n", "nested deeper than 8 levels"),
        ("headgate-keys: v1\n? [a]\n: b\n", "keys.yaml:2: a name is a text"),
        ("headgate-keys: v1\norgs: {acme: {plan: }}\n", "keys.yaml:2: `plan` has no value"),
        ("headgate-keys: v1\nkeys: {k_1: {}}\n", "keys.yaml:2: `keys` is a list"),
        ("- a\n", "keys.yaml:1: the file is a list and should be a map"),
        ("headgate-keys: v1\norgs: {' a': {}}\n", "keys.yaml:2: `org` has blanks"),
        ('headgate-keys: v1\norgs: {"a\\u0007": {}}\n', "keys.yaml:2: `org` has blanks at its ends or characters"),
        ("headgate-keys: v1\n\x00", "keys.yaml:1: is no YAML"),
    ],
)
def test_what_is_no_file_of_keys_is_told_with_its_line(text: str, told: str) -> None:
    with pytest.raises(IdentityError) as caught:
        parse(text)
    assert told in str(caught.value)


def test_a_file_that_is_missing_too_large_or_no_text_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match=r"keys\.yaml: no such file; `headgate init`"):
        KeysFile(tmp_path / "keys.yaml", [PEPPER])
    (tmp_path / "large.yaml").write_bytes(b"#" * (16 * 1024 * 1024 + 1))
    with pytest.raises(IdentityError, match="larger than 16 MiB"):
        KeysFile(tmp_path / "large.yaml", [PEPPER])
    (tmp_path / "bytes.yaml").write_bytes(b"headgate-keys: v1\n\xff\n")
    with pytest.raises(IdentityError, match=r"bytes\.yaml:2: holds bytes that are no UTF-8"):
        KeysFile(tmp_path / "bytes.yaml", [PEPPER])
    with pytest.raises(IdentityError, match="cannot be read"):
        KeysFile(tmp_path, [PEPPER])


def test_a_policy_names_a_file_a_function_or_none(file: Path) -> None:
    assert isinstance(open_directory("keys.yaml", base=file.parent, peppers=[PEPPER]), KeysFile)
    assert isinstance(open_directory("python:json:loads", base=file.parent, peppers=[PEPPER]), Callback)
    nobody = open_directory("", base=file.parent, peppers=[PEPPER])
    assert isinstance(nobody, Nobody)
    assert nobody.known(SECRET.encode()) is None and asyncio.run(nobody.find(SECRET.encode())) is None
    assert not nobody.refresh() and nobody.files == ()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("python:json", "write it as python:module:function"),
        ("python:no_such_module:f", "there is no module `no_such_module`"),
        ("python:json:laods", "`json` has no `laods`; did you mean `loads`?"),
        ("python:json:__doc__", "`__doc__` is a str, not a function"),
    ],
)
def test_a_function_that_cannot_be_imported_is_told(name: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(IdentityError) as caught:
        open_directory(name, base=tmp_path, peppers=[PEPPER])
    assert told in str(caught.value)


# --- the app's own function


class Asked:
    """A directory function that counts how often it is asked, and a clock that is moved by hand."""

    def __init__(self, answer: Any = None) -> None:
        self.answer, self.calls, self.now = answer, 0, 0.0
        self.threads: set[int] = set()

    def __call__(self, secret: str) -> Any:
        self.calls += 1
        self.threads.add(threading.get_ident())
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def directory(self) -> Callback:
        return Callback(self, [PEPPER], name="directory python:app:lookup", clock=lambda: self.now)


def test_an_answer_is_asked_for_once_in_five_seconds_and_known_without_waiting() -> None:
    asked = Asked({"key": "k_1", "org": "acme"})
    directory = asked.directory()

    async def story() -> None:
        assert directory.known(SECRET.encode()) is None
        first = await directory.find(SECRET.encode())
        assert first == Principal("k_1", "acme")
        asked.now = 4.9
        assert directory.known(SECRET.encode()) is first
        asked.now = 5.0
        assert directory.known(SECRET.encode()) is None
        assert await directory.find(SECRET.encode()) is first
        assert asked.calls == 2
        asked.now, asked.answer = 10.0, {"key": "k_1", "org": "acme", "plan": "scale"}
        second = await directory.find(SECRET.encode())
        assert second is not None and second.plan == "scale"

    asyncio.run(story())


def test_nobody_is_remembered_too_and_becomes_somebody_after_five_seconds() -> None:
    asked = Asked()
    directory = asked.directory()

    async def story() -> None:
        assert await directory.find(SECRET.encode()) is None
        assert await directory.find(SECRET.encode()) is None
        assert asked.calls == 1
        asked.now, asked.answer = 5.0, {"key": "k_1", "org": "acme"}
        assert await directory.find(SECRET.encode()) is not None
        asked.now, asked.answer = 10.0, None
        assert await directory.find(SECRET.encode()) is None
        assert directory.known(SECRET.encode()) is None

    asyncio.run(story())


def test_guessed_keys_push_no_customer_out_and_fill_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headgate.directory.callback.UNKNOWN_MOST", 3)
    monkeypatch.setattr("headgate.directory.callback.KNOWN_MOST", 2)
    asked = Asked({"key": "k_1", "org": "acme"})
    directory = asked.directory()

    async def story() -> None:
        await directory.find(SECRET.encode())
        asked.answer = None
        for number in range(10):
            await directory.find(b"guess%d" % number)
        assert directory.known(SECRET.encode()) is not None
        assert len(directory._unknown) == 3
        for number in range(10):
            asked.answer = {"key": f"k_{number}", "org": "acme"}
            await directory.find(b"key%d" % number)
        assert len(directory._known) == len(directory._by_key) == 2

    asyncio.run(story())


def test_a_function_that_fails_for_a_while_shuts_out_nobody_who_was_known() -> None:
    asked = Asked({"key": "k_1", "org": "acme"})
    directory = asked.directory()

    async def story() -> None:
        first = await directory.find(SECRET.encode())
        asked.now, asked.answer = 5.0, OSError("the database is away")
        assert await directory.find(SECRET.encode()) is first
        with pytest.raises(DirectoryUnavailable):
            await directory.find(b"somebody-elses")
        asked.now = 65.0
        with pytest.raises(DirectoryUnavailable):
            await directory.find(SECRET.encode())
        asked.answer = None
        assert await directory.find(SECRET.encode()) is None

    asyncio.run(story())


def test_a_flood_of_guesses_keeps_no_customer_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headgate.directory.callback.SOON", 0.0)
    go, mine = threading.Event(), {"key": "k_1", "org": "acme"}
    asked: list[str] = []

    def lookup(secret: str) -> dict[str, str] | None:
        asked.append(secret)
        if secret.startswith("guess"):
            assert go.wait(30)
            return None
        return mine

    now = [0.0]
    directory = Callback(lookup, [PEPPER], clock=lambda: now[0])

    async def story() -> None:
        first = await directory.find(SECRET.encode())
        flood = [asyncio.create_task(directory.find(b"guess%d" % number)) for number in range(GUESSES + 10)]
        await asyncio.sleep(0)
        over = [task for task in flood if task.done() and isinstance(task.exception(), DirectoryUnavailable)]
        assert len(over) == 10
        now[0] = 5.0
        assert await directory.find(SECRET.encode()) is first
        now[0] = 70.0
        async with asyncio.timeout(30):
            assert await directory.find(SECRET.encode()) is first, "asked anew, though all guesses hang"
        go.set()
        assert set(await asyncio.gather(*[task for task in flood if task not in over])) == {None}

    asyncio.run(story())


@pytest.mark.parametrize("fault", [asyncio.CancelledError(), StopIteration()], ids=["cancelled", "stopped"])
def test_what_a_function_must_not_raise_is_a_failure_like_any_other(fault: BaseException) -> None:
    def lookup(secret: str) -> None:
        raise fault

    async def waits(secret: str) -> None:
        raise fault

    for function in (lookup, waits):
        with pytest.raises(DirectoryUnavailable):
            asyncio.run(Callback(function, [PEPPER]).find(SECRET.encode()))


def test_many_who_bring_one_secret_at_once_ask_once() -> None:
    calls = 0
    go = asyncio.Event()

    async def lookup(secret: str) -> dict[str, str]:
        nonlocal calls
        calls += 1
        await go.wait()
        return {"key": "k_1", "org": "acme"}

    directory = Callback(lookup, [PEPPER])

    async def story() -> None:
        waiting = [asyncio.create_task(directory.find(SECRET.encode())) for _ in range(20)]
        await asyncio.sleep(0)
        waiting[0].cancel()  # the first client goes away; the others still get the answer
        await asyncio.sleep(0)
        go.set()
        found = await asyncio.gather(*waiting[1:])
        assert calls == 1 and all(one is found[0] for one in found)
        assert waiting[0].cancelled() and not directory._flights

    asyncio.run(story())


def test_a_plain_function_runs_beside_the_loop_and_an_async_one_on_it() -> None:
    asked = Asked({"key": "k_1", "org": "acme"})
    asyncio.run(asked.directory().find(SECRET.encode()))
    assert asked.threads.isdisjoint({threading.get_ident()})

    async def lookup(secret: str) -> None:
        assert threading.get_ident() == main

    class Lookup:
        async def __call__(self, secret: str) -> None:
            assert threading.get_ident() == main

    main = threading.get_ident()
    for function in (lookup, Lookup()):
        assert asyncio.run(Callback(function, [PEPPER]).find(SECRET.encode())) is None
    # What hides that it is async is awaited all the same.
    assert asyncio.run(Callback(lambda secret: _answered(secret), [PEPPER]).find(SECRET.encode())) is not None


async def _answered(secret: str) -> dict[str, str]:
    return {"key": "k_1", "org": "acme"}


def test_a_function_that_raises_is_unavailable_and_tells_where_but_not_what(caplog: pytest.LogCaptureFixture) -> None:
    asked = Asked(KeyError(SECRET))
    directory = asked.directory()
    for calls in (1, 2):  # a failure is no answer: it is not remembered
        with pytest.raises(DirectoryUnavailable) as caught:
            asyncio.run(directory.find(SECRET.encode()))
        assert asked.calls == calls
    assert "raised KeyError at test_directory.py" in str(caught.value)
    assert SECRET not in str(caught.value) + caplog.text
    assert caught.value.__suppress_context__ and caught.value.__cause__ is None
    assert "headgate.directory.failed" in caplog.text


def test_a_function_that_hangs_is_unavailable_after_its_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headgate.directory.callback.PATIENCE", 0.01)

    async def lookup(secret: str) -> None:
        await asyncio.Event().wait()

    with pytest.raises(DirectoryUnavailable, match=r"did not answer within 0\.01 s"):
        asyncio.run(Callback(lookup, [PEPPER]).find(SECRET.encode()))


def test_what_nobody_was_given_is_not_asked_about() -> None:
    asked = Asked()
    for secret in (b"", b"a b", "ключ".encode(), b"x" * 513):
        assert asyncio.run(asked.directory().find(secret)) is None
    assert asked.calls == 0


@pytest.mark.parametrize(
    "anchor",
    [
        date(2026, 1, 31),
        datetime(2026, 1, 31, tzinfo=UTC),
        "2026-01-31",
        "2026-01-31T01:00:00+01:00",
        1769817600000000,
    ],
)
def test_an_anchor_may_be_given_in_any_plain_form(anchor: object) -> None:
    asked = Asked(
        {"key": "k_1", "org": "acme", "anchor": anchor, "plan": None, "claims": {"n": 3, "ok": True, "x": None}}
    )
    found = asyncio.run(asked.directory().find(SECRET.encode()))
    assert found == Principal("k_1", "acme", anchor=1769817600000000, claims={"n": "3", "ok": "true"})


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (["k_1"], "answered with a list; it may be None, a Principal or a mapping"),
        (True, "answered with a bool"),
        ({"org": "acme"}, "answered without `key`"),
        ({"key": "k_1", "org": ""}, "answered without `org`"),
        ({"key": "k_1", "org": 7}, "answered with `org` that is a int, not a text"),
        ({"key": "k_1", "org": "acme", "plna": "x"}, "a field that there is not: `plna`; did you mean `plan`?"),
        ({"key": "k_1", "org": "acme", SECRET: "x"}, "a field that there is not: one that is no name"),
        ({"key": SECRET, "org": "acme"}, "the secret itself in `key`"),
        ({"key": "k_1", "org": "acme", "claims": {"raw": "Bearer " + SECRET}}, "the secret itself in `claims`"),
        ({"key": "k_1", "org": "acme", "claims": {"aud": ["a"]}}, "`claims` that holds a list"),
        ({"key": "k_1", "org": "acme", "traits": ["a"]}, "`traits` that is a list, not a mapping"),
        ({"key": "k_1", "org": "acme", "tags": "batch"}, "`tags` that is a str, not a list or a set"),
        ({"key": "k_1", "org": "acme", "tags": [1]}, "`tags` that holds a int"),
        ({"key": "k_1", "org": "acme", "anchor": datetime(2026, 1, 1)}, "without its zone"),
        ({"key": "k_1", "org": "acme", "anchor": 1769817600}, "a number of seconds"),
        ({"key": "k_1", "org": "acme", "anchor": True}, "`anchor` that is a bool"),
        ({"key": "a b", "org": "acme"}, "`key` that is no id"),
        ({"key": "k_1", "org": "a\nb"}, "`org` that has blanks at its ends or characters that cannot be seen"),
        (Principal("", "acme"), "answered without `key`"),
        (Principal(SECRET, "acme"), "the secret itself in `key`"),
    ],
)
def test_a_wrong_answer_is_named_without_its_values(
    answer: object, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(IdentityError) as caught:
        asyncio.run(Asked(answer).directory().find(SECRET.encode()))
    assert str(caught.value).startswith("directory python:app:lookup answered")
    assert told in str(caught.value)
    assert SECRET not in str(caught.value) + caplog.text


# --- the writer


def test_an_issued_key_is_known_and_its_secret_stands_nowhere(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    issued = issue.issue(file, "acme", "build", PEPPER, "2026-11-24")
    assert issued.new_org and issued.secret.startswith("hg_") and len(issued.secret) >= 35
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["keys.yaml"]
    text = file.read_text()
    assert issued.secret not in text and hashlib.sha256(issued.secret.encode()).hexdigest() not in text
    assert KeysFile(file, [PEPPER]).known(issued.secret.encode()) == Principal(issued.key, "acme", "build")


def test_what_stood_in_a_file_stands_there_still(tmp_path: Path) -> None:
    text = (
        "# ours\r\nheadgate-keys: v1   # the version\r\norgs:\r\n    acme: {plan: build}  # since 2020\r\n\r\n"
        "# the keys\r\nkeys:\r\n# first\r\n- {key: k_1, org: acme, digest: "
        + 32 * "0"
        + "}  # laptop\r\n\r\n# end\r\n"
    )
    file = tmp_path / "keys.yaml"
    file.write_bytes(text.encode())
    file.chmod(0o640)
    issued = issue.issue(file, "beta's", "free", PEPPER, "2026-11-24")
    after = file.read_bytes().decode()
    added = [line for line in after.splitlines(keepends=True) if line not in text.splitlines(keepends=True)]
    assert added == [
        "    'beta''s': {plan: free}\r\n",
        f"- {{key: {issued.key}, org: 'beta''s', digest: {marked(issued.secret)}, created: 2026-11-24}}\r\n",
    ]
    assert "".join(line for line in after.splitlines(keepends=True) if line not in added) == text
    assert after.index("laptop") < after.index(issued.key) < after.index("# end")
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


@pytest.mark.parametrize(
    "text",
    [
        "headgate-keys: v1",
        "headgate-keys: v1\n",
        "headgate-keys: v1\norgs:\nkeys:\n",
        "headgate-keys: v1\nkeys: []   # none yet\norgs: {}   # none yet\n",
        "headgate-keys: v1\norgs: ~\nkeys: null\n",
        "\ufeffheadgate-keys: v1\norgs:   # ours\n  # nobody\n\nkeys:\n  # nobody\n",
        "headgate-keys: v1\norgs:\n  beta:\n    plan: free\n    tags:\n      - a\n  # more\nkeys:\n",
        "headgate-keys: v1\norgs: {}\nkeys:\n  - key: k_1\n    org: acme\n    digest: " + 32 * "0" + "\n# end",
    ],
)
def test_the_first_key_finds_its_place_in_any_file(text: str, tmp_path: Path) -> None:
    if "org: acme" in text:
        text = text.replace("orgs: {}", "orgs: # ours\n  acme: {}")
    file = written(tmp_path / "keys.yaml", text)
    first = issue.issue(file, "gamma", "free", PEPPER, "2026-11-24")
    second = issue.issue(file, "gamma", "", PEPPER, "2026-11-24")
    directory = KeysFile(file, [PEPPER])
    for issued in (first, second):
        assert directory.known(issued.secret.encode()) == Principal(issued.key, "gamma", "free")
    comments = [line.partition("#")[2] for line in text.splitlines() if "#" in line]
    assert all(comment in file.read_text() for comment in comments)


@pytest.mark.parametrize(
    "text",
    [
        "{headgate-keys: v1}",
        "headgate-keys: v1\norgs: {acme: {}}\nkeys: [{key: k_1, org: acme, digest: " + 32 * "0" + "}]\n",
        "headgate-keys: v1\norgs: {acme: {}}\nkeys:\n",
    ],
)
def test_a_file_that_cannot_be_added_to_is_left_as_it_was(text: str, tmp_path: Path) -> None:
    file = written(tmp_path / "keys.yaml", text)
    with pytest.raises(IdentityError, match="cannot be added to"):
        issue.issue(file, "beta", "free", PEPPER, "2026-11-24")
    assert file.read_text() == text and os.listdir(tmp_path) == ["keys.yaml"]


def test_a_key_whose_plan_is_not_its_orgs_has_it_alone(file: Path) -> None:
    own = issue.issue(file, "acme", "scale", PEPPER, "2026-11-24")
    same = issue.issue(file, "acme", "build", PEPPER, "2026-11-24")
    assert not own.new_org and (own.plan, same.plan) == ("scale", "build")
    assert "plan: scale" in file.read_text().splitlines()[-2]
    assert "plan" not in file.read_text().splitlines()[-1]
    found = KeysFile(file, [PEPPER]).known(own.secret.encode())
    assert found is not None and found.plan == "scale"


@pytest.mark.parametrize("org", ["", " acme", "a\nb", "x" * 129])
def test_an_org_that_cannot_be_one_is_refused_before_anything_is_made(org: str, tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="the org"):
        issue.issue(tmp_path / "keys.yaml", org, "free", PEPPER, "2026-11-24")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "org", ["no", "null", "~", "a: b", "#x", "{x}", "'", '"', "1e3", "*a", "&a", "!t", "-", "ä ö", "a#b"]
)
def test_any_name_of_an_org_is_read_as_it_was_given(org: str, tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    issued = issue.issue(file, org, "no", PEPPER, "2026-11-24")
    assert KeysFile(file, [PEPPER]).known(issued.secret.encode()) == Principal(issued.key, org, "no")


def test_a_key_is_revoked_where_it_stands(tmp_path: Path) -> None:
    file = written(
        tmp_path / "keys.yaml",
        HEAD + f"keys:\n  - {{key: k_1, org: acme, digest: {marked(SECRET)}}}  # laptop\n"
        f"  - {{key: k_2, org: acme,\n     digest: {32 * '1'},}}\n"
        f"  - key: k_3  # by hand\n    org: acme\n    digest: {32 * '2'}\n# end\n",
    )
    for key in ("k_1", "k_2", "k_3"):
        assert issue.revoke(file, key, "2026-11-24")
        assert not issue.revoke(file, key, "2026-11-25")
    table = parse(file.read_text())
    assert [entry.revoked for entry in table.entries] == 3 * ["2026-11-24"]
    assert "# laptop" in file.read_text() and "# by hand" in file.read_text() and file.read_text().endswith("# end\n")
    assert KeysFile(file, [PEPPER]).known(SECRET.encode()) is None
    with pytest.raises(IdentityError, match="has no key `k_4`; did you mean `k_3`"):
        issue.revoke(file, "k_4", "2026-11-24")


def test_a_link_to_the_file_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    real, link = tmp_path / "real" / "keys.yaml", tmp_path / "keys.yaml"
    issue.made(real)
    link.symlink_to(real)
    issued = issue.issue(link, "acme", "free", PEPPER, "2026-11-24")
    assert link.is_symlink() and issued.key in real.read_text()


def test_a_file_stays_its_owners(file: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root writes in another's name")
    os.chown(file, 12345, 12346)
    issue.issue(file, "acme", "", PEPPER, "2026-11-24")
    assert (file.stat().st_uid, file.stat().st_gid) == (12345, 12346)


def _issue_some(path: Path, start: Any) -> None:
    start.wait()
    for _ in range(5):
        issue.issue(path, "acme", "free", PEPPER, "2026-11-24")


def test_no_key_is_lost_when_several_issue_at_once(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    context = multiprocessing.get_context("fork")
    start = context.Event()
    writers = [context.Process(target=_issue_some, args=(file, start)) for _ in range(4)]
    for writer in writers:
        writer.start()
    start.set()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    table = parse(file.read_text())
    assert len(table.entries) == 20 and list(table.orgs) == ["acme"]
    assert os.listdir(tmp_path) == ["keys.yaml"]


def test_a_writer_that_dies_halfway_leaves_the_old_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = file.read_bytes()

    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(IdentityError, match="cannot be written: No space left on device"):
        issue.issue(file, "acme", "", PEPPER, "2026-11-24")
    assert file.read_bytes() == before and os.listdir(file.parent) == ["keys.yaml"]


def test_a_writer_waits_for_another_only_so_long(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    monkeypatch.setattr(issue, "PATIENCE", 0.02)
    held = os.open(file.parent, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(IdentityError, match="another program writes keys"):
            issue.issue(file, "acme", "", PEPPER, "2026-11-24")
    finally:
        os.close(held)


def test_event_loops_do_not_wait_for_each_others_answers() -> None:
    both = threading.Barrier(2, timeout=60)

    async def slow(secret: str) -> Any:
        await asyncio.to_thread(both.wait)  # each loop has asked when the first is answered
        return {"key": "k1", "org": "acme"}

    directory = Callback(slow, [PEPPER])
    found: list[Principal | None] = []

    def asks() -> None:
        found.append(asyncio.run(directory.find(SECRET.encode())))

    threads = [threading.Thread(target=asks) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [principal.key for principal in found if principal is not None] == ["k1", "k1"]
    assert not directory._flights
