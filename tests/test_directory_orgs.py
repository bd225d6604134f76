"""What a directory says of an org, and the number that tells whether it still says so."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from headgate.directory import Callback, KeysFile, Nobody
from headgate.quota.facts import Group

HEAD = "headgate-keys: v1\norgs:\n  acme: {plan: build, anchor: 1970-01-02}\n  bolt: {}\nkeys:\n"
DAY = 86_400_000_000


def line(number: int, more: str = "") -> str:
    return f"  - {{key: k_{number}, org: acme, digest: {number:032}{more}}}\n"


def test_a_file_has_another_version_when_it_says_another_thing_of_an_org(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text(HEAD + line(1))
    directory = KeysFile(file, [b"pepper"])
    assert directory.org("acme") == Group("acme", frozenset({"acme"}), frozenset({"build"}), DAY)
    assert directory.org("gone") is None
    versions = [directory.version]
    for text in (
        HEAD + line(1) + line(2),  # one more key of an org
        HEAD + line(1) + line(2, ", plan: scale"),  # which gets a plan of its own
        HEAD.replace("bolt: {}", "bolt: {plan: free}") + line(1),  # another org gets one
    ):
        file.write_text(text)
        assert directory.refresh()
        versions.append(directory.version)
    assert versions[0] == versions[1] and len(set(versions)) == 3
    assert Nobody().version == 0 and Nobody().org("acme") is None


class App:
    """The app's function: a plan by the secret, and a clock that is moved by hand."""

    def __init__(self, **plans: str) -> None:
        self.plans, self.now, self.anchor = plans, 0.0, "1970-01-02"
        self.directory = Callback(self, [b"pepper"], clock=lambda: self.now)

    async def __call__(self, secret: str) -> dict[str, Any]:
        return {"key": f"id-{secret}", "org": "acme", "plan": self.plans[secret], "anchor": self.anchor}

    def asked(self, *secrets: str) -> frozenset[str]:
        """The plans of the org after these have called, five seconds later."""
        self.now += 5
        for secret in secrets:
            asyncio.run(self.directory.find(secret.encode()))
        org = self.directory.org("acme")
        assert org is not None
        return org.plans


def test_the_keys_of_an_org_each_bring_their_plan() -> None:
    app = App(a="build", b="scale")
    assert app.directory.org("acme") is None
    assert app.asked("a") == {"build"} and app.directory.version == 0
    assert app.asked("b") == {"build", "scale"} and app.directory.version == 1
    assert app.asked("a", "b", "a") == {"build", "scale"} and app.directory.version == 1


def test_an_org_that_goes_to_a_smaller_plan_is_on_it_though_an_idle_key_knew_the_larger() -> None:
    app = App(a="scale", b="scale")
    assert app.asked("a", "b") == {"scale"}
    app.plans = {"a": "build", "b": "build"}
    assert app.asked("a") == {"build"} and app.directory.version == 1


def test_a_key_in_use_brings_its_own_plan_again_after_another_keys_has_changed() -> None:
    app = App(a="scale", b="pro")
    assert app.asked("a", "b") == {"scale", "pro"}
    app.plans["a"] = "build"
    assert app.asked("a", "b") == {"build", "pro"}


def test_keys_that_tell_two_anchors_do_not_change_the_version_for_ever() -> None:
    app = App(a="build", b="build")
    app.asked("a")
    app.anchor = "1970-01-03"
    app.asked("b")
    before = app.directory.version
    app.anchor = "1970-01-02"
    app.plans["b"] = "build"
    for _ in range(3):
        app.asked("a")
    assert app.directory.version == before
