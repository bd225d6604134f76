"""The command itself, as a process: what goes where, how it ends, and how it behaves when it is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from .conftest import PEPPER, Run

SCRIPT = Path(sys.executable).with_name("headgate")


def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("HEADGATE")} | environment
    program = [str(SCRIPT)] if SCRIPT.exists() else [sys.executable, "-m", "headgate.cli"]
    return subprocess.run([*program, *words], env=env, capture_output=True, text=True, timeout=300, check=False)


def test_the_script_says_its_version_and_helps(run: Run) -> None:
    assert command("--version").stdout.startswith("headgate 0.")
    for words in ((), ("key",)):
        assert "Commands:" in (said := run(*words)).stdout + said.stderr
    for words in (
        ("init",),
        ("check",),
        ("key", "new"),
        ("key", "list"),
        ("key", "revoke"),
        ("explain",),
        ("usage",),
        ("doctor",),
    ):
        helped = run(*words, "--help")
        assert helped.exit_code == 0 and "Usage:" in helped.stdout
    assert run("wrong").exit_code == 2


def test_a_key_is_made_by_the_script_and_the_pepper_shows_nowhere(folder: Path) -> None:
    made = command("key", "new", "--org", "acme", "--into", "keys.yaml", HEADGATE_PEPPER=PEPPER)
    assert made.returncode == 0 and made.stdout.startswith("hg_") and made.stdout.count("\n") == 1
    assert PEPPER not in made.stdout + made.stderr + (folder / "keys.yaml").read_text()


def test_a_fault_of_the_user_is_no_traceback(folder: Path) -> None:
    refused = command("key", "new", "--org", "acme")
    assert refused.returncode == 2 and refused.stdout == ""
    assert "Traceback" not in refused.stderr and len(refused.stderr.splitlines()) == 1


def test_a_terminal_without_our_letters_is_no_fault(policy: Path, keys: Path) -> None:
    keys.write_text(keys.read_text().replace("acme", "äcme"))
    said = command("key", "list", PYTHONIOENCODING="ascii")
    assert said.returncode == 0 and said.stderr == "" and "cme" in said.stdout


def test_a_reader_that_goes_away_is_no_fault(folder: Path) -> None:
    lines = [f"  - {{key: k_{number}, org: acme, digest: {number:032}}}\n" for number in range(3000)]
    (folder / "keys.yaml").write_text("headgate-keys: v1\norgs: {acme: {}}\nkeys:\n" + "".join(lines))
    env = {name: value for name, value in os.environ.items() if not name.startswith("HEADGATE")}
    with subprocess.Popen(
        [sys.executable, "-m", "headgate.cli", "key", "list"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().startswith(b"key")
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only /proc tells that a command waits")
def test_ctrl_c_ends_it_without_a_word(folder: Path) -> None:
    import fcntl

    (folder / "keys.yaml").write_text("headgate-keys: v1\norgs: {}\nkeys: []\n")
    env = {name: value for name, value in os.environ.items() if not name.startswith("HEADGATE")}
    words = [sys.executable, "-m", "headgate.cli", "key", "new", "--org", "acme", "--into", "keys.yaml"]
    held = os.open(folder, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)  # somebody else writes keys: the command waits
    with subprocess.Popen(
        words,
        env=env | {"HEADGATE_PEPPER": PEPPER},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    ) as process:
        until = time.monotonic() + 30
        while not _has_open(process.pid, folder):
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    os.close(held)
    assert (process.returncode, out, err) == (130, b"", b"")


def _has_open(process: int, folder: Path) -> bool:
    with suppress(OSError):
        return any(handle.readlink() == folder for handle in Path(f"/proc/{process}/fd").iterdir())
    return False


def test_the_commands_start_without_what_only_a_service_needs() -> None:
    """What takes long to import is imported by the command that needs it."""
    code = (
        "import sys, headgate.cli\n"
        "heavy = {'redis', 'limits', 'starlette', 'pydantic', 'yaml', 'rich', 'structlog', 'sqlite3'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert said.stdout == "[]\n"


def test_making_a_key_loads_no_store(folder: Path) -> None:
    code = (
        "import sys\n"
        "from headgate.cli import app\n"
        "app(['key', 'new', '--org', 'acme'], standalone_mode=False)\n"
        "print(sorted({'redis', 'limits', 'starlette', 'sqlite3', 'headgate.stores'} & set(sys.modules)))"
    )
    env = os.environ | {"HEADGATE_PEPPER": PEPPER}
    said = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=300, check=True
    )
    assert said.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("words", [("key", "new", "--org", "acme"), ("init", "per-key")])
def test_a_full_disk_is_told_in_one_line(
    words: tuple[str, ...], run: Run, pepper: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    refused = run(*words)
    assert refused.exit_code == 2 and len(refused.stderr.splitlines()) == 1 and "No space left" in refused.stderr
