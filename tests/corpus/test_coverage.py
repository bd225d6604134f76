"""Which cases of the bypass corpus are shown, which come later, and that none is forgotten."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

HERE = Path(__file__).parent
CORPUS = Path(__file__).parents[2].parent / "shared" / "design" / "bypass-corpus.yaml"

FOLDERS = (HERE, HERE.with_name("chaos"))
"""Where a case has a test of its name: `test_fl_01_…` shows FL-01."""

DRIVERS = {"raw", "asgi", "storage", "chaos"}
"""What a case is driven by, of those that are shown so far. Some of the simulated ones are, too."""

LATER = {
    "ID-26": "deleting and making an org again is the operator's API, which is not there yet",
    "RT-15": "needs an HTTP/2 server; the in-process race of one tick is the stores' own test",
    "CO-09": "cutting a stream in the middle needs holds that are extended while it runs",
    "CO-11": "there are no meters of distinct records yet",
    "ME-03": "there are no meters of distinct records yet",
    "ME-05": "there are no metrics yet",
    "ME-06": "refusals are not yet aggregated in the log",
    "SH-07": "there is no ladder of sanctions yet",
    "SH-08": "there is no ladder of sanctions yet",
}
"""Cases that are not shown yet, and why."""

ELSEWHERE = {
    "AT-02": "tests/chaos/test_p1_never_over_admits.py: test_p1_eight_processes_admit_exactly_the_limit",
    "AT-05": "tests/chaos/test_p19_cancellation.py: test_p19_five_thousand_callers_that_give_up_disturb_nobody",
    "AT-08": "tests/chaos/test_p4_killed_worker.py: "
    "test_p4_what_killed_workers_held_ends_with_its_lease_and_no_place_is_lost",
    "AT-13": "tests/asgi/test_metering.py: test_twenty_of_each_ending_leave_nothing_held_and_settle_once",
    "AT-14": "tests/chaos/test_p3_all_or_none.py: "
    "test_p3_a_shard_that_is_killed_between_the_phases_leaves_nobody_charged_in_one_place_alone",
    "FL-06": "tests/chaos/test_p2_exact_under_client_faults.py: "
    "test_p2_lost_replies_callers_that_give_up_and_forgotten_scripts_change_no_count",
    "FL-09": "tests/chaos/test_p2_exact_under_client_faults.py: test_p2_moving_slots_change_no_count_either",
    "FL-22": "tests/stores/test_sqlite_faults.py: test_a_disk_that_fills_and_is_freed_again",
}
"""Cases whose test has another name, since it shows a promise, or a store's own law."""


def shown() -> set[str]:
    """Ids of the cases that have a test of their name."""
    found: set[str] = set()
    for folder in FOLDERS:
        for file in folder.glob("test_*.py"):
            names = re.findall(r"^ *(?:async )?def test_([a-z]{2})_(\d\d)_", file.read_text(encoding="utf-8"), re.M)
            found |= {f"{letters.upper()}-{number}" for letters, number in names}
    return found


def cases() -> dict[str, str]:
    """The corpus: each case with its driver."""
    if not CORPUS.is_file():
        pytest.skip("the bypass corpus is not beside this checkout")
    return {case["id"]: case["driver"] for case in yaml.safe_load(CORPUS.read_text(encoding="utf-8"))["cases"]}


def test_each_case_is_shown_or_named_as_coming_later() -> None:
    corpus = cases()
    wanted = {case for case, driver in corpus.items() if driver in DRIVERS}
    assert wanted - shown() - set(LATER) - set(ELSEWHERE) == set()
    assert (set(LATER) | set(ELSEWHERE)) - wanted == set()
    assert shown() - set(corpus) == set(), "a test is named after a case that there is not"


def test_what_is_shown_is_not_also_promised() -> None:
    assert not (shown() | set(ELSEWHERE)) & set(LATER)
    for place in ELSEWHERE.values():
        file, _, name = place.partition(": ")
        assert f"def {name}(" in (HERE.parents[1] / file).read_text(encoding="utf-8"), place
