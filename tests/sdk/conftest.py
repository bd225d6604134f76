"""Servers for the tests of this folder, which end with the test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from sdk.line import Line, Serve, serving


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """`serve(policy, store=…, around=…)`: the policy before a new upstream, as `sdk.line.serving` does it."""
    with ExitStack() as stack:
        numbers = iter(range(100))

        def served(policy: str, **given: Any) -> Line:
            return stack.enter_context(serving(policy, tmp_path / f"policy-{next(numbers)}.yaml", **given))

        yield served
