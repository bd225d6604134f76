"""Whatever stands in a file or in a variable: a policy, or a PolicyError, and nothing else."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headgate.errors import PolicyError
from headgate.nearest import nearest
from headgate.policy import load
from headgate.policy.literals import Wrong

FILES = [
    *sorted((Path(__file__).parents[2] / "policies").glob("*.yaml")),
    *sorted(Path(__file__).with_name("examples").glob("llm.yaml")),
    *sorted(Path(__file__).with_name("golden").glob("HG[245]*.yaml")),
]
TEXTS = [path.read_text(encoding="utf-8") for path in FILES]
WORDS = sorted({word for text in TEXTS for word in text.replace(",", " ").replace("}", " ").split()})

PIECES = st.one_of(
    st.sampled_from(WORDS),
    st.sampled_from(
        ["{", "}", "[", "]", ": ", "\n", "- ", "\n  ", "&a ", "*a", "!!x ", "'", '"', "#", "|\n", "0", "~", "%"]
    ),
    st.text(max_size=6),
)
PARTS = ("limits", "rpm", "rate", "free", "mode", "identify", "key", "overrides", "0", "plans", "terms", "zone", "x")
FEW = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)


def attempt(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> None:
    file = tmp_path / "policy.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        load(file, environ=environ)
    except PolicyError as fault:
        assert fault.problems and str(fault)


@FEW
@given(st.data())
def test_a_policy_with_pieces_cut_out_and_put_in_is_taken_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(TEXTS))
    for _ in range(data.draw(st.integers(1, 4))):
        begin = data.draw(st.integers(0, len(text)))
        end = min(len(text), begin + data.draw(st.sampled_from([0, 0, 1, 2, 5, 20])))
        text = text[:begin] + data.draw(PIECES) + text[end:]
    attempt(tmp_path, text)


@FEW
@given(st.data())
def test_a_policy_with_words_exchanged_is_taken_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(TEXTS))
    for _ in range(data.draw(st.integers(1, 3))):
        text = text.replace(data.draw(st.sampled_from(WORDS)), data.draw(st.sampled_from(WORDS)))
    attempt(tmp_path, text)


@FEW
@given(st.text(max_size=200))
def test_any_text_is_taken_or_refused(tmp_path: Path, text: str) -> None:
    attempt(tmp_path, text)


@FEW
@given(
    st.lists(st.sampled_from(PARTS), max_size=5),
    st.one_of(st.text(max_size=10), st.sampled_from(WORDS)),
)
def test_any_variable_is_taken_or_refused(tmp_path: Path, path: list[str], value: str) -> None:
    attempt(tmp_path, TEXTS[-1], {"HEADGATE__" + "__".join(path).upper(): value})


@given(st.text(max_size=12), st.lists(st.text(max_size=12), max_size=5))
def test_the_nearest_word_is_one_of_the_known(word: str, known: list[str]) -> None:
    assert nearest(word, known) in {"", *known}
    assert issubclass(Wrong, ValueError)
