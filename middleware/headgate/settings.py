"""How a service runs: what the environment says beside the policy.

Law: a setting says *where* and *how* (which policy, which store, how long to wait), never *what is allowed*: that is
the policy's. Variables have one underscore (`HEADGATE_STORE`); two (`HEADGATE__LIMITS__…`) change a leaf of the
policy and are left to its loader. A variable that is set and empty is as good as not set, save `HEADGATE_PREFIX`,
where empty means off. A name that nobody knows is told with what was probably meant; a value that cannot be used is
told by its variable's name. No secret is ever printed.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field, PrivateAttr, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from headgate.errors import SettingsError
from headgate.nearest import nearest, suggestion
from headgate.telemetry import events

__all__ = ["Origin", "Settings", "SettingsError", "made_pepper"]

PREFIX = "HEADGATE_"

NO_SETTINGS = (PREFIX + "_", PREFIX + "TEST_", PREFIX + "BENCH_")
"""How variables begin that are no settings: leaves of the policy, and what tests and benchmarks are told."""

PEPPER_LEAST = 16
"""Characters of the shortest pepper that is taken: below that, whoever holds the ledger could guess it."""

PEPPER_MOST = 4096
"""Bytes read of a pepper's file: a file that is longer is not one."""

SECRET_PART = re.compile(r"(?i)((?:pass|pw|secret|token|key)\w*=)[^&\s]+")


class Origin(NamedTuple):
    """One setting as it stands: its `variable`, its `value` as it may be shown, and where that comes from."""

    variable: str
    value: str
    source: str


class Settings(BaseSettings):
    """Everything that is said outside the policy, from the environment.

    Raises SettingsError, with every fault at once, for values that cannot be used.

    >>> Settings(store="memory://", deadline_ms=250).deadline_ms
    250
    >>> Settings(deadline_ms="soon")
    Traceback (most recent call last):
    ...
    headgate.errors.SettingsError: HEADGATE_DEADLINE_MS: `soon` is not a whole number
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="forbid", frozen=True, hide_input_in_errors=True, str_strip_whitespace=True
    )

    policies: str = Field(default="headgate.yaml", description="The policy: a file or a folder of them.")
    """Files or folders, several joined by the system's path separator (`:`). By default `headgate.yaml` where the
    service was started: what `headgate init` makes."""

    store: str = Field(default="sqlite:///headgate.db", description="Where usage is kept.")
    """`memory://` (one process, forgotten at its end), `sqlite:///FILE` (all workers of one machine), `redis://HOST`
    (a fleet; also `rediss`, `unix`, `redis+sentinel`, `redis+cluster`, Valkey alike), or a storage that the `limits`
    package knows. By default a file beside the policy, so that a restart gives nobody a fresh quota."""

    durability: Literal["fast", "replicated"] = Field(default="fast", description="When a fleet's store answers.")
    """Of Redis and Valkey: `fast` answers when the server has counted, `replicated` when a replica has it as well
    (`WAIT`), so that a failover loses nothing, at the price of a replica's round trip. Others do not read it."""

    mode: Literal["", "enforce", "shadow", "disabled"] = Field(default="", description="Replaces the policy's mode.")
    """`shadow` decides and denies nothing, `disabled` lets everything pass. Empty: the policy's own mode, as it was
    reviewed."""

    pepper: SecretStr | None = Field(default=None, description="The secret that digests keys and subjects.")
    """At least 16 characters, the same for all workers. Without it, `pepper_file` is read."""

    pepper_previous: SecretStr | None = Field(default=None, description="The pepper before, while both are in use.")
    """Keys that were made under it are still known; nothing new is digested with it. Not set by default."""

    pepper_file: str = Field(default="headgate.pepper", description="A file that holds the pepper.")
    """Read where `HEADGATE_PEPPER` is not set. By default `headgate.pepper`, which `headgate init` makes."""

    deadline_ms: int | None = Field(default=None, ge=1, le=60_000, description="Longest wait for the store, in ms.")
    """Milliseconds, 1 to 60,000, after which a request goes the way of `on_store_error`. Unset: the store's own."""

    prefix: str = Field(default="/headgate", description="Where callers ask for their usage; empty: nowhere.")
    """Path under which the middleware answers by itself. By default one that no app is likely to have."""

    admin_token: SecretStr | None = Field(default=None, description="Opens the operator's API.")
    """At least 16 characters. Without it the operator's API is closed: there is no default password."""

    log: str = Field(default="", description="Where events go: `stderr` or a file; empty: to the host's logging.")
    """Empty by default, for a library does not configure the logging of the app that it runs in."""

    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="The least told.")
    """Used where `log` is. `info` tells of every refusal and every reload."""

    reload_seconds: float = Field(
        default=1.0, ge=0, le=3600, allow_inf_nan=False, description="How often policy and keys are looked at, in s."
    )
    """Seconds between two looks for a changed policy or key directory; 0: never. One second is cheap (two calls of
    the system) and keeps the promise that a change is live within two."""

    demo: bool = Field(default=False, description="Makes a pepper by itself where there is none. For trying out.")
    """Off by default: a service that lost its pepper must not start with another one, for then nobody's key is known
    and everybody's quota is fresh."""

    peek_bytes: int = Field(default=65_536, ge=0, le=16_777_216, description="Most of a body that is read ahead.")
    """Bytes, up to 16 MiB; 0: none. Of a longer body nothing is known: where that decides which limits apply or who
    is charged, the request is refused with 413, for padding must hide nothing; elsewhere it counts as saying none."""

    watch: Literal["auto", "apart", "off"] = Field(default="auto", description="Who looks for linked keys.")
    """Where the policy has `linking`: `auto`, one of the workers besides serving, or with a fleet's store a process
    of its own, `headgate watch`; `apart`, always such a process; `off`, nobody, and nothing is noted for it."""

    watch_keep: int = Field(
        default=16_384, ge=256, le=1_048_576, description="Most parcels that wait to be looked at."
    )
    """Parcels of up to 16 requests, as digests, some 6 kB each: what a process that watches can come back to when it
    was away. The oldest go first. By default some 100 MB where all are full."""

    _sources: dict[str, str] = PrivateAttr(default_factory=dict)
    _unknown: tuple[str, ...] = PrivateAttr(default=())

    def __init__(self, **given: Any) -> None:
        try:
            super().__init__(**given)
        except ValidationError as fault:
            raise SettingsError(_said(fault, given)) from None
        self._sources = _sources(given, os.environ)
        self._unknown = _unknown(os.environ)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_unset(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in values.items() if name == "prefix" or not _empty(value)}

    @field_validator("mode", "log_level", "durability", "watch", mode="before")
    @classmethod
    def _any_case(cls, value: object) -> object:
        return value.strip().lower() if isinstance(value, str) else value

    @field_validator("store")
    @classmethod
    def _an_address(cls, value: str) -> str:
        if not re.match(r"[a-z][a-z0-9+.-]*://", value):
            raise ValueError(
                "is not the address of a store: `memory://`, `sqlite:///headgate.db`, `redis://127.0.0.1`"
            )
        return value

    @field_validator("prefix")
    @classmethod
    def _a_path(cls, value: str) -> str:
        if value and not re.fullmatch(r"(/[A-Za-z0-9_.~-]+)+/?", value):
            raise ValueError("is not a path such as `/headgate`; empty means off")
        return value.rstrip("/")

    @field_validator("pepper", "pepper_previous", "admin_token")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < PEPPER_LEAST:
            raise ValueError(f"is shorter than {PEPPER_LEAST} characters; `openssl rand -hex 32` makes a good one")
        return value

    def policy_paths(self) -> tuple[Path, ...]:
        """The files or folders that `policies` names.

        >>> [str(path) for path in Settings(policies="a.yaml" + os.pathsep + "more").policy_paths()]
        ['a.yaml', 'more']
        """
        return tuple(Path(part) for part in self.policies.split(os.pathsep) if part)

    def peppers(self) -> tuple[bytes, ...]:
        """The peppers in use, newest first: the current one, and the one before it if it is still told.

        Raises SettingsError where there is none, unless `demo` is set: then one is made and kept in `pepper_file`,
        so that all workers share it.
        """
        newest = self.pepper.get_secret_value() if self.pepper is not None else self._from_file()
        previous = [self.pepper_previous.get_secret_value()] if self.pepper_previous is not None else []
        return tuple(dict.fromkeys(text.encode() for text in (newest, *previous)))

    def _from_file(self) -> str:
        path = Path(self.pepper_file)
        if not path.exists():
            if not self.demo:
                raise SettingsError(
                    f"no pepper: set HEADGATE_PEPPER, or make {path} with `headgate init` "
                    f"(or `openssl rand -hex 32 > {path}`); it must stay the same, and be the same for all workers"
                )
            made_pepper(path)
            events.warning("headgate.settings.demo", reason="a pepper was made for trying out", file=str(path))
        return _read_pepper(path)

    def warn(self) -> None:
        """Send an event for each variable that looks like a setting and is none. Once, when a service starts."""
        for name in self._unknown:
            events.warning("headgate.settings.unknown", variable=name, reason=unknown_variable(name))

    def unknown(self) -> tuple[str, ...]:
        """Variables of the environment that begin like a setting and are none, such as HEADGATE_STROE."""
        return self._unknown

    def origins(self) -> tuple[Origin, ...]:
        """Every setting with its value and source, as `headgate config --origin` prints them; secrets hidden.

        >>> Settings(mode="shadow").origins()[3]
        Origin(variable='HEADGATE_MODE', value='shadow', source='argument `mode`')
        """
        return tuple(
            Origin(variable_of(name), self._as_shown(name), self._sources.get(name, "default"))
            for name in type(self).model_fields
        )

    def _as_shown(self, name: str) -> str:
        value = getattr(self, name)
        if isinstance(value, SecretStr):
            return "[hidden]"
        if name == "pepper" and value is None and Path(self.pepper_file).exists():
            return f"[in {self.pepper_file}]"
        return "(not set)" if value is None else without_password(str(value))

    def __repr_args__(self) -> list[tuple[str, str]]:
        return [(name, self._as_shown(name)) for name in type(self).model_fields]


def without_password(address: str) -> str:
    """An address as it may be shown, also one that is written wrongly.

    >>> without_password("redis://user:pa/ss@host/0?password=x&db=1"), without_password("redis:pw@host")
    ('redis://[hidden]@host/0?password=[hidden]&db=1', '[hidden]@host')
    """
    user, at, host = SECRET_PART.sub(r"\1[hidden]", address).rpartition("@")
    scheme, slashes, _ = user.partition("//")
    return f"{scheme if slashes else ''}{slashes}[hidden]@{host}" if at else host


def variable_of(name: str) -> str:
    """The variable that sets a field.

    >>> variable_of("deadline_ms")
    'HEADGATE_DEADLINE_MS'
    """
    return PREFIX + name.upper()


def unknown_variable(name: str) -> str:
    """What to say of a variable that looks like a setting and is none.

    >>> unknown_variable("HEADGATE_STROE")
    'HEADGATE_STROE is no setting; did you mean HEADGATE_STORE?'
    """
    known = [variable_of(field) for field in Settings.model_fields]
    meant = nearest(name, known)
    hint = f"did you mean {meant}?" if meant else "two underscores, HEADGATE__…, change a leaf of the policy"
    return f"{name} is no setting; {hint}"


def made_pepper(path: Path) -> bool:
    """Make a pepper's file, mode 0600, whole or not at all; False where there is one already, which is left alone.

    Of several that try at once one makes it, and all find the same. Raises SettingsError where it cannot be written.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        try:
            file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(file, "w", encoding="ascii") as writing:
                writing.write(secrets.token_hex(32) + "\n")
                writing.flush()
                os.fsync(writing.fileno())
            os.link(draft, path)  # fails where the name is taken: nobody reads half of it, nobody replaces it
        finally:
            draft.unlink(missing_ok=True)
    except FileExistsError:
        return False
    except OSError as fault:
        raise SettingsError(f"cannot make the pepper's file {path}: {fault.strerror}") from None
    return True


def _read_pepper(path: Path) -> str:
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                events.warning("headgate.settings.exposed", file=str(path), reason="others may read it: chmod 600")
            text = file.read(PEPPER_MOST + 1).decode("utf-8").strip()
    except OSError as fault:
        raise SettingsError(f"HEADGATE_PEPPER_FILE: cannot read {path}: {fault.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"HEADGATE_PEPPER_FILE: {path} holds no text") from None
    if not PEPPER_LEAST <= len(text) <= PEPPER_MOST:
        raise SettingsError(
            f"HEADGATE_PEPPER_FILE: {path} holds {len(text)} characters; a pepper has {PEPPER_LEAST} to {PEPPER_MOST}"
        )
    return text


def _empty(value: object) -> bool:
    return isinstance(value, str) and not value.strip()


def _sources(given: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for variable, value in environ.items():
        name = variable.lower().removeprefix(PREFIX.lower())
        if variable.upper().startswith(PREFIX) and name in Settings.model_fields and (value or name == "prefix"):
            found[name] = f"environment {variable}"
    said = [name for name, value in given.items() if name == "prefix" or not _empty(value)]
    return found | {name: f"argument `{name}`" for name in said}


def _unknown(environ: Mapping[str, str]) -> tuple[str, ...]:
    ours = [name for name in environ if name.upper().startswith(PREFIX) and not name.upper().startswith(NO_SETTINGS)]
    return tuple(sorted(name for name in ours if name[len(PREFIX) :].lower() not in Settings.model_fields))


def _said(fault: ValidationError, given: Mapping[str, Any]) -> str:
    """Each fault of the values on a line of its own, led by the variable to mend. No secret value is told."""
    return "\n".join(_one(error, given) for error in fault.errors(include_url=False, include_context=True))


def _one(error: Any, given: Mapping[str, Any]) -> str:
    name = str(error["loc"][0]) if error["loc"] else ""
    if error["type"] == "extra_forbidden":
        return f"`{name}` is no setting{suggestion(name, Settings.model_fields)}"
    secret = Settings.model_fields[name].annotation == SecretStr | None
    value = given.get(name, error["input"])
    shown = "the value" if secret else f"`{without_password(str(value))[:80]}`"
    return f"{variable_of(name)}: {shown} {_why(error)}"


def _why(error: Any) -> str:
    context = error.get("ctx", {})
    match error["type"]:
        case "int_parsing" | "int_type" | "int_from_float":
            return "is not a whole number"
        case "float_parsing" | "float_type" | "finite_number":
            return "is not a number"
        case "bool_parsing" | "bool_type":
            return "is neither true nor false"
        case "literal_error":
            return f"is none of {context['expected'].replace(chr(39), '').replace(', ,', '').lstrip(', ')}"
        case "greater_than_equal":
            return f"is less than {context['ge']:g}"
        case "less_than_equal":
            return f"is more than {context['le']:g}"
        case "value_error":
            return str(context["error"])
        case _:
            return str(error["msg"])
