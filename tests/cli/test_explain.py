"""`headgate explain`: what each limit makes of a request, and what was decided."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from headgate.gate import Gate
from headgate.policy import load
from headgate.quota.decision import Decision
from headgate.quota.facts import Call, Principal
from headgate.stores import open_store
from headgate.telemetry import log_to, stop_logging

from .conftest import Run, Said


def block(said: Said, limit: str) -> dict[str, str]:
    """The lines of one limit, by their labels; the verdict under ""."""
    lines = said.stdout.split(f"\n{limit}: ")[1].split("\n\n")[0].splitlines()
    return {"": lines[0]} | {line[:18].strip(): line[18:] for line in lines[1:]}


NOON = ("--at", "2026-11-24T12:00:00Z")


def test_each_limit_says_whether_it_applies_and_why(policy: Path, keys: Path, run: Run) -> None:
    said = run("explain", "GET", "/v1/x", "--key", "k_1", *NOON)
    assert said.exit_code == 0 and said.stderr == ""
    assert said.stdout.startswith(
        "GET /v1/x by key k_1, org acme, plan free\n"
        "policy little, mode enforce; charged: rpm, rows, month, staged, watched, open\n"
    )
    assert block(said, "rpm") == {
        "": "applies",
        "counts": "requests per key",
        "value": "2/min, burst 1",
        "charged": "key k_1",
        "asks": "1 at once",
        "window": "smooth: one more each 30s, up to 3 at once",
        "mode": "enforced",
        "store error": "closed",
    }
    assert block(said, "posts")[""] == "does not apply: `when method: POST` is not met"


def test_what_is_held_counted_and_refused_is_told(policy: Path, keys: Path, run: Run) -> None:
    rows = block(run("explain", "GET", "/v1/x", "--key", "k_1", *NOON), "rows")
    assert rows["value"] == "100/day (Europe/Berlin)"
    assert rows["asks"] == "25 held ahead; what the app reports is charged instead, afterwards"
    assert rows["window"] == "2026-11-24 00:00:00+01:00 to 2026-11-25 00:00:00+01:00"
    assert rows["candidate"] == "50 a window, decided in shadow beside it"
    assert (rows["alerts"], rows["refuses with"]) == ("at 80%", "403 enough")
    assert rows["clause"] == "fair: Fair use https://x.example/terms#3"


def test_windows_have_the_orgs_own_edges_in_the_policys_zone(policy: Path, keys: Path, run: Run) -> None:
    said = run("explain", "GET", "/", "--key", "k_1", *NOON)
    assert block(said, "month")["window"] == "2026-10-31 01:00:00+01:00 to 2026-11-30 01:00:00+01:00"
    assert block(said, "watched")["window"] == "the last 7d, in 7h steps"
    assert block(said, "open")["asks"] == "a place, held while it is served (at most 10min unheard of)"
    assert block(said, "staged")["window"] == "none: for good"


def test_shadow_and_rollout_are_told_apart(policy: Path, keys: Path, run: Run) -> None:
    said = run("explain", "GET", "/", "--key", "k_1")
    assert block(said, "staged")["mode"] == "shadow: this org is not among the 0% of the rollout"
    assert block(said, "watched")["mode"] == "shadow: decided and recorded, never refused"


def test_an_exception_is_told_with_its_reason_and_end(policy: Path, keys: Path, run: Run) -> None:
    said = run("explain", "GET", "/", "--org", "bigco")
    month = block(said, "month")
    assert month["value"].startswith("9,000/month") and month["exception"].startswith("contract 2231 (until 2")
    assert block(said, "rows")[""] == "unlimited"


def test_an_exemption_is_told_by_its_words(policy: Path, keys: Path, run: Run) -> None:
    free = block(run("explain", "POST", "/v1/x", "--key", "k_1", "--tag", "batch"), "posts")
    assert free[""] == "does not apply: `unless tag: batch` is met"
    charged = block(run("explain", "post", "/v1/x", "--key", "k_1"), "posts")
    assert charged[""] == "applies"
    assert charged["because"] == "when route: /v1/*, when method: POST, unless tag: batch (not met)"


def test_the_request_is_read_as_the_middleware_reads_it(policy: Path, keys: Path, run: Run) -> None:
    dotted = run("explain", "POST", "/a/..//v1/x?y=1", "--key", "k_1", "--ip", "::ffff:198.51.100.7")
    assert block(dotted, "posts")[""] == "applies" and "also matched as" in dotted.stdout
    assert block(dotted, "watched")["charged"] == "ip 198.51.100.7, key k_1"


def test_headers_queries_and_bodies_are_seen(policy: Path, keys: Path, run: Run) -> None:
    policy.write_text(
        policy.read_text().replace(
            "limits:\n",
            "limits:\n  by: {meter: requests, per: [header.x-region, query.page, body.model, route], rate: 5/min}\n",
        )
    )
    more = ("-H", "X-Region: eu", "--body", '{"model": "m"}', "--route", "/{a}")
    said = run("explain", "POST", "/x?page=7", "--key", "k_1", *more)
    assert block(said, "by")["charged"] == "header.x-region eu, query.page 7, body.model m, route /{a}"


def test_who_is_nobody_is_refused_before_any_limit(policy: Path, run: Run) -> None:
    refused = run("explain", "GET", "/")
    assert refused.exit_code == 1 and refused.stdout.startswith("refused with 401 before any limit")
    policy.write_text(policy.read_text().replace("anonymous: refuse", "anonymous: {plan: free, per: ip}"))
    said = run("explain", "GET", "/")
    assert said.stdout.startswith("GET / by anonymous, plan free\n")
    assert block(said, "rpm")["charged"] == "ip 192.0.2.1"


def test_without_a_file_of_keys_all_is_said_by_hand(policy: Path, run: Run) -> None:
    assert run("explain", "GET", "/", "--key", "k9", "--org", "o", "--plan", "build").exit_code == 0
    missing = run("explain", "GET", "/", "--key", "k9")
    assert missing.exit_code == 2 and "keys.yaml: no such file" in missing.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("GET", "/", "--key", "k_3"), "has no key `k_3`; did you mean `k_"),
        (("GET", "/", "--key", "k_1", "--plan", "gold"), "has no plan `gold`"),
        (("GET", "x", "--key", "k_1"), "`x` is no path"),
        (("G/T", "/", "--key", "k_1"), "`G/T` is no method"),
        (("GET", "/", "--key", "k_1", "--ip", "nowhere"), "--ip `nowhere` is no address"),
        (("GET", "/", "--key", "k_1", "-H", "nothing"), "--header `nothing` is no `name: value`"),
        (("GET", "/", "--key", "k_1", "--body", "[1]"), "--body is no JSON object"),
        (("GET", "/", "--key", "k_1", "--at", "noon"), "--at is neither a date"),
        (("GET",), "`get` is no decision's id"),
        (("0123456789abcdef",), "which log? --log names it, or HEADGATE_LOG"),
        (("0123456789abcdef", "--log", "none.log"), "none.log: cannot be read"),
    ],
)
def test_what_cannot_be_explained_is_told_in_one_line(
    words: tuple[str, ...], told: str, policy: Path, keys: Path, run: Run
) -> None:
    refused = run("explain", *words)
    assert refused.exit_code == 2 and refused.stdout == ""
    assert told in refused.stderr and len(refused.stderr.splitlines()) == 1


def test_a_secret_is_never_repeated(policy: Path, keys: Path, run: Run) -> None:
    secret = "hg_" + 32 * "s"
    refused = run("explain", "GET", "/", "--key", secret)
    assert refused.exit_code == 2 and secret not in refused.stderr + refused.stdout
    assert "public id" in refused.stderr


def decided(policy: Path, log: Path, count: int) -> list[Decision]:
    """So many requests of one caller, decided and told of in a log as a service tells of them."""
    handler = log_to(str(log), "debug")
    try:
        clock = lambda: 1_795_000_000_000_000  # noqa: E731
        gate = Gate(load(policy), open_store("memory://", clock=clock), peppers=(b"pepper",), clock=clock)
        call = Call(Principal("k_1", "acme", "free"), method="GET", paths=("/v1/x\x1b[2J",), network="192.0.2.7")
        return [asyncio.run(gate.admit(call)) for _ in range(count)]
    finally:
        stop_logging(handler)


def test_a_decision_is_found_by_its_id_and_told_with_its_reasons(policy: Path, folder: Path, run: Run) -> None:
    log = folder / "headgate.log"
    *served, refused = decided(policy, log, 4)
    said = run("explain", refused.id, "--log", "headgate.log")
    assert said.exit_code == 0 and said.stderr == ""
    first, *rest = said.stdout.splitlines()
    assert first == f"{refused.id}: refused for now"
    assert rest[0].split(maxsplit=1) == ["when", "2026-11-18 12:06:40+01:00"]
    assert rest[1].split(maxsplit=1) == ["request", "GET /v1/x\\x1b[2J"]
    assert rest[2].split(maxsplit=1) == ["caller", "key k_1, org acme, plan free"]
    assert rest[3] == "  rpm: refused"
    assert "asked 1, used 3, held 0, of 3, left 0" in rest[5]
    assert rest[6].split(maxsplit=2) == ["again", "at", "2026-11-18 12:07:10+01:00"]
    assert "192.0.2.7" not in said.stdout
    let_in = run("explain", f"urn:headgate:decision:{served[0].id.upper()}", "--log", "headgate.log")
    assert let_in.stdout.startswith(f"{served[0].id}: served\n")


def test_a_beginning_of_the_id_is_enough_if_it_is_one_decisions(policy: Path, folder: Path, run: Run) -> None:
    first, second = decided(policy, folder / "headgate.log", 2)
    assert first.id[:24] == second.id[:24]
    many = run("explain", first.id[:24], "--log", "headgate.log")
    assert many.exit_code == 1 and "begins the ids of 2 decisions" in many.stderr
    none = run("explain", "0" * 32, "--log", "headgate.log")
    assert none.exit_code == 1 and "HEADGATE_LOG_LEVEL=debug" in none.stderr


def test_the_log_of_the_settings_is_looked_in(
    policy: Path, folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    [one] = decided(policy, folder / "events.log", 1)
    monkeypatch.setenv("HEADGATE_LOG", "events.log")
    assert run("explain", one.id).exit_code == 0


def test_a_log_of_anything_is_read_without_fault(folder: Path, run: Run) -> None:
    event = {"event": "headgate.denied", "decision": "ab" * 16, "limits": [{}, 7], "now": "x", "action": "odd"}
    lines = ['{"decision": 7}', "{", '"decision"', "[" * 5000 + '"decision"', "\xff\xfe", json.dumps(event)]
    (folder / "x.log").write_bytes("\n".join(lines).encode("latin-1"))
    said = run("explain", "abababab", "--log", "x.log")
    assert said.exit_code == 0 and said.stdout.startswith("ab" * 16 + ": odd\n")
