"""What an endpoint costs, as a value; and that no framework is needed for another."""

from __future__ import annotations

import subprocess
import sys

import pytest

from headgate.errors import AmountError, IdentityError
from headgate.frameworks.spending import Named, Spending, check, marked, spendings


def test_a_cost_that_is_no_amount_is_found_where_it_is_written() -> None:
    for cost in (-1, 2.5, True, "5"):
        with pytest.raises(AmountError):
            Spending("search", cost)  # type: ignore[arg-type]
    with pytest.raises(IdentityError):
        Spending("")


def test_a_function_keeps_all_that_was_said_of_it() -> None:
    def search() -> None: ...

    marked(search, Spending("search", 5))
    marked(search, Spending("rows"))
    assert {(one.meter, one.cost) for one in spendings(search)} == {("search", 5), ("rows", 1)}


def test_all_wrong_names_are_told_at_once_each_with_its_routes() -> None:
    asked = [
        Named(Spending("rwos"), "GET /a"),
        Named(Spending("search"), "GET /b"),
        Named(Spending("cost"), "GET /c"),
        Named(Spending("rwos"), "GET /d"),
    ]
    with pytest.raises(IdentityError) as caught:
        check(asked, ["rows", "search"])
    first, second = str(caught.value).splitlines()
    assert first.startswith("GET /a, GET /d spends `rwos`")
    assert "did you mean `rows`?" in first
    assert second.startswith("GET /c spends `cost`")
    assert second.endswith("(there are: rows, search)")


def ran(code: str) -> str:
    ended = subprocess.run([sys.executable, "-Ic", code], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_headgate_and_its_middleware_need_no_framework() -> None:
    code = (
        "import sys, headgate, headgate.frameworks.spending, headgate.frameworks.fastapi\n"
        "headgate.HeadgateMiddleware\n"
        "print([name for name in ('fastapi', 'litestar', 'django', 'quart') if name in sys.modules])"
    )
    assert ran(code) == "[]"


@pytest.mark.parametrize(("module", "name"), [("litestar", "Litestar"), ("django", "Django"), ("quart", "Quart")])
def test_a_framework_that_is_missing_is_named_with_the_command_that_installs_it(module: str, name: str) -> None:
    code = (
        f"import sys; sys.modules[{module!r}] = None\n"
        f"try: import headgate.frameworks.{module}\n"
        "except ImportError as fault: print(fault)"
    )
    assert ran(code) == f"headgate.frameworks.{module} needs {name}, which is not installed: pip install {module}"
