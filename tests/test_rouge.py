"""ROUGE against the best reference and against their mean, and leads, beside counts by hand."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqmodal.evaluation.rouge import leads, rouge, sentences, signature

WORDS = ["cat", "dog", "sun", "map", "ten", "red"]  # which are their own stems
TEXTS = st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join)


def f1(prediction: str, reference: str, n: int) -> float:
    """Share of runs of n words in common, by counting."""
    ours, theirs = (
        Counter(tuple(text.split()[at : at + n]) for at in range(len(text.split()) + 1 - n))
        for text in (prediction, reference)
    )
    common = sum((ours & theirs).values())
    return 2 * common / max(1, sum(ours.values()) + sum(theirs.values())) if common else 0.0


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(TEXTS, st.lists(TEXTS, min_size=1, max_size=3)), min_size=1, max_size=3))
def test_it_is_the_best_reference_and_the_mean_over_references(pairs: list[tuple[str, list[str]]]) -> None:
    found = rouge([prediction for prediction, _ in pairs], [some for _, some in pairs])
    for n, name in ((1, "rouge1"), (2, "rouge2")):
        scores = [[100 * f1(prediction, reference, n) for reference in some] for prediction, some in pairs]
        assert found[name] == pytest.approx(sum(map(max, scores)) / len(scores))
        if any(len(some) > 1 for _, some in pairs):
            means = [sum(row) / len(row) for row in scores]
            assert found[f"{name}_mean"] == pytest.approx(sum(means) / len(means))
        else:
            assert f"{name}_mean" not in found


def test_lsum_takes_sentences_in_any_order() -> None:
    """The union of common subsequences of sentences: 1 where the sentences are the same ones, turned round."""
    found = rouge(["A dog ran. The cat sat."], [["The cat sat. A dog ran."]])
    assert found["rouge_lsum"] == pytest.approx(100) and found["rouge2"] < 100
    assert rouge([], []) == {}
    with pytest.raises(ValueError, match="without any reference"):
        rouge(["a"], [[]])
    with pytest.raises(ValueError):
        rouge(["a", "b"], [["a"]])


def test_leads_are_the_first_sentences() -> None:
    articles = ["The cat sat. A dog ran. It is red. No more.", "Sun\nmap\nten\nred"]
    references = [["A dog ran."], ["sun", "ten red"]]
    found = leads(articles, references)
    for count in (1, 3):
        expected = rouge(["\n".join(sentences(article)[:count]) for article in articles], references)
        assert {key: found[f"lead{count}_{key}"] for key in expected} == expected
    assert found["lead1_rouge1"] == pytest.approx((0 + 100) / 2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two? Three! Four", ["One.", "Two?", "Three!", "Four"]),
        ("It costs 3.5 e.g. here. (Then) 2 more.", ["It costs 3.5 e.g. here.", "(Then) 2 more."]),
        ('He said "no." So it was.', ['He said "no."', "So it was."]),
        ("a\n\n b \r\nc", ["a", "b", "c"]),
        ("", []),
        (" \n ", []),
        ("No capital. after it", ["No capital. after it"]),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


@given(st.text(alphabet="ab. !?\n\"'(A1)", max_size=60))
def test_sentences_lose_nothing_but_space(text: str) -> None:
    assert "".join("".join(sentences(text)).split()) == "".join(text.split())


def test_the_settings_are_told() -> None:
    assert signature().startswith("rouge-score 0.") and "stemmer" in signature()
