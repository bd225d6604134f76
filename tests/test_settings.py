"""Settings: what the environment says, where each value comes from, and what is said of a wrong one."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from headgate.errors import IdentityError
from headgate.settings import Settings, SettingsError, made_pepper

CANARY = "canary-pepper-which-nobody-may-ever-see"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reads the settings of the shell that runs it."""
    for name in list(os.environ):
        if name.upper().startswith("HEADGATE"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_without_any_variable_each_setting_has_its_default() -> None:
    assert Settings().model_dump() == {
        "policies": "headgate.yaml",
        "store": "sqlite:///headgate.db",
        "durability": "fast",
        "mode": "",
        "pepper": None,
        "pepper_previous": None,
        "pepper_file": "headgate.pepper",
        "deadline_ms": None,
        "prefix": "/headgate",
        "admin_token": None,
        "log": "",
        "log_level": "info",
        "reload_seconds": 1.0,
        "demo": False,
        "peek_bytes": 65_536,
        "watch": "auto",
        "watch_keep": 16_384,
    }


def test_every_setting_says_what_it_is() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_variables_are_read_and_an_empty_one_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "HEADGATE_POLICIES": "a.yaml" + os.pathsep + "more",
        "HEADGATE_MODE": " Shadow ",
        "HEADGATE_DEADLINE_MS": "250",
        "HEADGATE_RELOAD_SECONDS": "",
        "HEADGATE_PEPPER": "",
        "HEADGATE_PREFIX": "",
        "HEADGATE_DEMO": "yes",
        "HEADGATE_LOG_LEVEL": "DEBUG",
    }.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.policy_paths() == (Path("a.yaml"), Path("more"))
    assert (settings.mode, settings.deadline_ms, settings.reload_seconds) == ("shadow", 250, 1.0)
    assert (settings.pepper, settings.prefix, settings.demo, settings.log_level) == (None, "", True, "debug")


def test_all_wrong_values_are_told_at_once_by_their_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "HEADGATE_STORE": "postgres",
        "HEADGATE_MODE": "enforced",
        "HEADGATE_PEPPER": "short",
        "HEADGATE_ADMIN_TOKEN": "hunter2",
        "HEADGATE_DEADLINE_MS": "2s",
        "HEADGATE_PREFIX": "headgate",
        "HEADGATE_LOG_LEVEL": "loud",
        "HEADGATE_RELOAD_SECONDS": "nan",
        "HEADGATE_DEMO": "perhaps",
        "HEADGATE_PEEK_BYTES": "99999999",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        Settings()
    assert sorted(str(caught.value).splitlines()) == [
        "HEADGATE_ADMIN_TOKEN: the value is shorter than 16 characters; `openssl rand -hex 32` makes a good one",
        "HEADGATE_DEADLINE_MS: `2s` is not a whole number",
        "HEADGATE_DEMO: `perhaps` is neither true nor false",
        "HEADGATE_LOG_LEVEL: `loud` is none of debug, info, warning or error",
        "HEADGATE_MODE: `enforced` is none of enforce, shadow or disabled",
        "HEADGATE_PEEK_BYTES: `99999999` is more than 1.67772e+07",
        "HEADGATE_PEPPER: the value is shorter than 16 characters; `openssl rand -hex 32` makes a good one",
        "HEADGATE_PREFIX: `headgate` is not a path such as `/headgate`; empty means off",
        "HEADGATE_RELOAD_SECONDS: `nan` is not a number",
        "HEADGATE_STORE: `postgres` is not the address of a store: `memory://`, `sqlite:///headgate.db`, "
        "`redis://127.0.0.1`",
    ]
    assert isinstance(caught.value, IdentityError)
    # No frame of pydantic's, with the values in it, hangs on to the error.
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


def test_a_setting_that_there_is_not_is_told_with_what_was_meant() -> None:
    with pytest.raises(SettingsError, match="`stroe` is no setting; did you mean `store`"):
        Settings(stroe="memory://")


def test_a_mistyped_variable_is_not_silent(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("HEADGATE_STROE", "memory://")
    monkeypatch.setenv("HEADGATE__LIMITS__RPM__RATE", "5/min")
    monkeypatch.setenv("HEADGATE_ZZZ", "1")
    settings = Settings()
    assert settings.unknown() == ("HEADGATE_STROE", "HEADGATE_ZZZ")
    settings.warn()
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "HEADGATE_STROE is no setting; did you mean HEADGATE_STORE?" in caplog.text
    assert "HEADGATE_ZZZ is no setting" in caplog.text


def test_each_value_is_told_with_where_it_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_STORE", "redis://ada:lovelace@localhost/0")
    monkeypatch.setenv("HEADGATE_PEPPER", CANARY)
    monkeypatch.setenv("HEADGATE_PREFIX", "")
    monkeypatch.setenv("HEADGATE_MODE", "")
    origins = {origin.variable: origin[1:] for origin in Settings(deadline_ms=50).origins()}
    assert len(origins) == len(Settings.model_fields)
    assert origins["HEADGATE_STORE"] == ("redis://[hidden]@localhost/0", "environment HEADGATE_STORE")
    assert origins["HEADGATE_PEPPER"] == ("[hidden]", "environment HEADGATE_PEPPER")
    assert origins["HEADGATE_PREFIX"] == ("", "environment HEADGATE_PREFIX")
    assert origins["HEADGATE_DEADLINE_MS"] == ("50", "argument `deadline_ms`")
    assert origins["HEADGATE_MODE"] == ("", "default")
    assert origins["HEADGATE_PEPPER_PREVIOUS"] == ("(not set)", "default")


def test_no_secret_is_ever_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PEPPER", "PEPPER_PREVIOUS", "ADMIN_TOKEN"):
        monkeypatch.setenv("HEADGATE_" + name, CANARY)
    monkeypatch.setenv("HEADGATE_STORE", f"redis://u:{CANARY}@host/0?password={CANARY}")
    settings = Settings()
    assert CANARY not in repr(settings) + str(settings) + str(settings.origins())
    monkeypatch.setenv("HEADGATE_STORE", f"redis:u:{CANARY}@host")
    with pytest.raises(SettingsError) as caught:
        Settings()
    assert CANARY not in str(caught.value)


def test_the_newest_pepper_comes_first_and_one_told_twice_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_PEPPER", CANARY)
    assert Settings().peppers() == (CANARY.encode(),)
    monkeypatch.setenv("HEADGATE_PEPPER_PREVIOUS", "the pepper of last year")
    assert Settings().peppers() == (CANARY.encode(), b"the pepper of last year")
    monkeypatch.setenv("HEADGATE_PEPPER_PREVIOUS", CANARY)
    assert Settings().peppers() == (CANARY.encode(),)


def test_a_missing_pepper_is_told_with_how_to_make_one() -> None:
    with pytest.raises(SettingsError, match=r"set HEADGATE_PEPPER, or make headgate.pepper with `headgate init`"):
        Settings().peppers()
    assert not Path("headgate.pepper").exists()


def test_the_peppers_file_is_read_where_the_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert made_pepper(Path("headgate.pepper"))
    assert stat.S_IMODE(Path("headgate.pepper").stat().st_mode) == 0o600
    text = Path("headgate.pepper").read_text().strip()
    assert len(text) == 64 and Settings().peppers() == (text.encode(),)
    assert not made_pepper(Path("headgate.pepper"))
    assert Path("headgate.pepper").read_text().strip() == text
    assert "[in headgate.pepper]" in [origin.value for origin in Settings().origins()]
    monkeypatch.setenv("HEADGATE_PEPPER", CANARY)
    assert Settings().peppers() == (CANARY.encode(),)


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"short\n", "holds 5 characters"), (b"\xff" * 40, "holds no text"), (b"x" * 5000, "holds 4097 characters")],
)
def test_a_file_that_holds_no_pepper_is_told_by_name(content: bytes, told: str) -> None:
    Path("headgate.pepper").write_bytes(content)
    with pytest.raises(SettingsError, match=f"HEADGATE_PEPPER_FILE: headgate.pepper {told}"):
        Settings().peppers()


def test_a_pepper_that_others_may_read_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    made_pepper(Path("headgate.pepper"))
    Settings().peppers()
    assert caplog.text == ""
    Path("headgate.pepper").chmod(0o644)
    Settings().peppers()
    assert "headgate.settings.exposed" in caplog.text


def test_a_pepper_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot make the pepper's file nowhere/headgate.pepper: No such file"):
        made_pepper(Path("nowhere/headgate.pepper"))


def test_a_demo_makes_one_pepper_for_all_its_workers(caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings(demo=True)
    found: list[tuple[bytes, ...]] = []
    together = threading.Barrier(8)

    def worker() -> None:
        together.wait()
        found.append(settings.peppers())

    workers = [threading.Thread(target=worker) for _ in range(8)]
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join()
    assert len(set(found)) == 1 and os.listdir() == ["headgate.pepper"]
    assert "headgate.settings.demo" in caplog.text
    assert found[0][0].decode() not in caplog.text
