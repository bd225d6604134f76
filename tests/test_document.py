"""The one reader of YAML: what stands where, what is refused, and that each refusal has its words."""

from __future__ import annotations

import os
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.directory import sheet
from headgate.document import Branch, Broken, Document, Fault, Kind, Row, Scalar, Source, read, text_of
from headgate.policy import tree

UNCLOSED = "did not find expected ',' or ']'"


def document(text: str, *, nodes: int = 1000, depth: int = 8, never: str = "") -> Document:
    return read(text, Source("x.yaml"), nodes=nodes, depth=depth, never=never)


def kinds(text: str, *, nodes: int = 1000, depth: int = 8, never: str = "") -> list[Kind]:
    return [fault.kind for fault in document(text, nodes=nodes, depth=depth, never=never).faults]


def test_a_scalar_is_its_text_and_knows_where_it_begins_and_ends() -> None:
    root, faults = document("a: 010\nb: 'x\n  y'\nc:\n")
    assert isinstance(root, Branch) and faults == ()
    values = [value for _, value in root.entries.values() if isinstance(value, Scalar)]
    assert [(value.text, value.plain) for value in values] == [("010", True), ("x y", False), ("", True)]
    assert [str(value.mark) for value in values] == ["x.yaml:1:4", "x.yaml:2:4", "x.yaml:4:3"]
    assert [(value.end_line, value.end_column) for value in values] == [(1, 7), (3, 5), (4, 3)]
    assert [value.mark.width for value in values] == [3, 1, 1]


def test_a_map_in_braces_ends_behind_them() -> None:
    root, _ = document("a: {b: 1,\n  c: [2, 3]} # x\nd:\n  - e\n")
    assert isinstance(root, Branch) and not root.flow
    braces, block = (value for _, value in root.entries.values())
    assert isinstance(braces, Branch) and braces.flow
    assert (braces.line, braces.column, braces.end_line, braces.end_column, braces.mark.width) == (1, 4, 2, 13, 1)
    assert isinstance(block, Row) and not block.flow and (block.line, block.column) == (4, 3)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: &x 1", ("anchor", 1, 4, "x")),
        ("\na: *x", ("alias", 2, 4, "x")),
        ("a: !!int 1", ("tag", 1, 4, "tag:yaml.org,2002:int")),
        ("a: {<<: {b: 1}}", ("merge", 1, 5, "")),
        ("? [a]\n: 1", ("name", 1, 3, "")),
        ("%YAML 1.1\n---\na: 1", ("directive", 1, 1, "")),
        ("a: 1\n---\nb: 1", ("second", 2, 1, "")),
        ("a: ${HOME}", ("placeholder", 1, 4, "")),
        ("a: b: c", ("syntax", 1, 5, "mapping values are not allowed in this context")),
        ("[a\n}", ("syntax", 2, 1, f"{UNCLOSED} (while parsing a flow sequence that began in line 1)")),
        ("a: \x07", ("syntax", 1, 1, "unacceptable character #x0007: control characters are not allowed")),
    ],
)  # fmt: skip
def test_what_says_more_than_it_shows_is_refused_with_its_place(text: str, told: tuple[str, int, int, str]) -> None:
    [fault] = document(text, never="${").faults
    assert (fault.kind, fault.mark.line, fault.mark.column, fault.detail) == told


def test_a_field_that_stands_twice_tells_its_first_place_and_the_first_holds() -> None:
    root, [fault] = document(f"a: 1\nb: 2\na: 3\n{'k' * 70}: 1\n")
    assert (fault.kind, fault.mark.line, fault.detail, fault.first) == ("twice", 3, "a", 1)
    assert isinstance(root, Branch) and root.partial
    value = root.entries["a"][1]
    assert isinstance(value, Scalar) and value.text == "1"
    [long] = document(2 * f"{'k' * 70}: 1\n").faults
    assert long.detail == 59 * "k" + "…"


def test_reading_goes_on_after_a_fault_and_leaves_out_what_is_wrong() -> None:
    root, faults = document("a: *x\nb: !t {c: &y 1}\n? {d: 1}\n: 2\n*z : 3\n")
    assert [fault.kind for fault in faults] == ["alias", "tag", "anchor", "name", "alias"]
    assert isinstance(root, Branch) and root.partial and list(root.entries) == ["a", "b"]
    assert all(isinstance(value, Broken) for _, value in root.entries.values())


def test_reading_stops_at_its_bounds() -> None:
    assert kinds("[1, 2, 3]", nodes=4) == [] and kinds("[1, 2, 3]", nodes=3) == ["nodes"]
    assert kinds("[[1]]", depth=2) == [] and kinds("[[1]]", depth=1) == ["depth"]
    assert document("[[1]]", depth=1).root is None
    # The parser's own bound lies far above.
    assert kinds("[" * 5000, nodes=10_000, depth=4000) in (["depth"], ["syntax"])


def test_nothing_is_no_fault_and_no_node() -> None:
    assert document("") == document("# only a comment\n") == Document(None, ())
    assert isinstance(document("---\n").root, Scalar)


def test_dollars_and_braces_are_text_where_nobody_forbids_them() -> None:
    assert kinds("a: ${HOME}") == []


def test_a_file_is_read_up_to_its_bound_or_says_why_not(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes(b"\xef\xbb\xbfabc")
    assert text_of(file, 6) == "abc"
    file.write_bytes(b"a\n\xff")
    os.mkfifo(tmp_path / "pipe")
    faults = [
        text_of(file, 2),
        text_of(file, 3),
        text_of(tmp_path, 9),
        text_of(tmp_path / "pipe", 9),
        text_of(tmp_path / "gone", 9),
        text_of(tmp_path / "nul\0", 9),
    ]
    assert all(isinstance(fault, Fault) for fault in faults)
    told = [(fault.kind, fault.mark.line, fault.detail) for fault in faults if isinstance(fault, Fault)]
    assert told == [
        ("large", 1, ""),
        ("encoding", 2, "0xff"),
        ("irregular", 1, ""),
        ("irregular", 1, ""),
        ("missing", 1, ""),
        ("unreadable", 1, "embedded null byte"),
    ]


def test_every_kind_of_fault_has_its_words_in_each_document() -> None:
    assert set(tree._SAID) == set(get_args(Kind))
    assert set(sheet._SAID) == set(get_args(Kind)) - {"placeholder"}  # in a file of keys it is text


@given(st.text(st.sampled_from("ab:-?[]{},&*!|>'\"%#\n\t ~<\ud800\x07\u2028é"), max_size=40))
def test_no_text_raises_anything(text: str) -> None:
    for fault in document(text, nodes=30, depth=3, never="${").faults:
        assert fault.kind in get_args(Kind) and fault.mark.line >= 1 and fault.mark.width >= 1
