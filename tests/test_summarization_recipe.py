"""Articles and their summaries become documents, bad lines are told and lose nothing, and a run summarizes files."""

from __future__ import annotations

import gzip
import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import seqmodal
from seqmodal.cli import main
from seqmodal.data import docstrings as source
from seqmodal.data.corpus import Prepared, prepare
from seqmodal.data.source import named_splits
from seqmodal.errors import BadInput, ConfigError
from seqmodal.evaluation.rouge import rouge, sentences
from seqmodal.recipes import summarization
from seqmodal.recipes.summarization import CUE, Config, corpus
from seqmodal.training.judge import judge_run

TINY: dict[str, Any] = {
    "model": {"d_model": 16, "num_layers": 1, "num_heads": 2},
    "training": {"steps": 4, "batch_size": 4, "evaluations": 1, "samples": 1, "threads": 1},
    "vocab_size": 300,
    "summary_tokens": 6,
    "beams": 2,
}


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQMODAL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def article(seed: int, length: int = 4) -> tuple[str, str]:
    """Some sentences, and the words that begin them."""
    rng = np.random.default_rng(seed)
    words = [rng.choice(["the", "sun", "rose", "and", "we", "saw"], 5) for _ in range(length)]
    return " ".join(" ".join(some).capitalize() + "." for some in words), f"Text {seed} of {length} sentences."


def write(path: Path, rows: list[Any], ends: str = "\n", before: bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = ends.join([row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows] + [""])
    data = before + text.encode("utf-8")
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def rows(first: int, last: int) -> list[dict[str, Any]]:
    return [{"text": text, "summary": summary} for text, summary in map(article, range(first, last))]


def held(prepared: Prepared, split: str) -> list[tuple[str, str]]:
    """Article and summary of each document of a split."""
    tokenizer, store = prepared.tokenizers[0], prepared.stores[split]
    return [tuple(tokenizer.decode(segment.ids) for segment in store[n].segments) for n in range(len(store))]  # type: ignore[misc]


def test_an_article_is_read_both_ways_and_its_summary_learned(tmp_path: Path) -> None:
    data = write(tmp_path / "a.jsonl", rows(0, 12))
    found = prepare(summarization, Config(data=str(data), vocab_size=300))
    assert found.facts["articles"] == 12 and found.facts["cut"] == 0 and found.facts["skipped"] == 0
    expected = [("\n".join(sentences(row["text"])) + CUE, row["summary"]) for row in rows(0, 12)]
    assert held(found, "train") == expected[:9] + expected[10:] and held(found, "valid") == expected[9:10]
    for number in range(len(found.stores["train"])):
        text, summary = found.stores["train"][number].segments
        assert (text.loss, text.both_ways, summary.loss, summary.both_ways) == (0.0, True, 1.0, False)


def test_several_summaries_are_all_learned_and_sentences_may_be_a_list(tmp_path: Path) -> None:
    row = {"body": ["One is a list. Of two.", "Two\nlines"], "tldr": ["first\none", "second"], "more": 3}
    data = write(tmp_path / "a.jsonl", [row, {"body": "Some text.", "tldr": "short"}])
    config = Config(data=str(data), text="body", summary="tldr", vocab_size=300, valid_share=0.5)
    found = prepare(summarization, config)
    assert held(found, "train") == [("One is a list.\nOf two.\nTwo\nlines" + CUE, s) for s in ("first one", "second")]
    assert found.stores["train"].names == [f"{data}:1"] * 2 and held(found, "valid") == [("Some text." + CUE, "short")]
    (kept,) = summarization._kept(found.stores["train"], found.tokenizers[0], 5)
    assert (kept.text, kept.summaries) == ("One is a list.\nOf two.\nTwo\nlines", ("first one", "second"))


@pytest.mark.parametrize("longest", [1, 7, 40])
def test_a_long_article_is_cut_behind_so_many_tokens(tmp_path: Path, longest: int) -> None:
    data = write(tmp_path / "a.jsonl", rows(0, 10) + [{"text": "x. " * 3, "summary": "y"}])
    found = prepare(summarization, Config(data=str(data), vocab_size=300, article=longest))
    tokenizer, store = found.tokenizers[0], found.stores["train"]
    texts = ["\n".join(sentences(row["text"])) for row in [*rows(0, 9), {"text": "x. " * 3}]]
    for number, text in enumerate(texts):
        expected = [*tokenizer.encode(text)[:longest], *tokenizer.encode(CUE)]
        assert store[number].segments[0].ids.tolist() == expected
    everything = [*texts, "\n".join(sentences(rows(9, 10)[0]["text"]))]
    assert found.facts["cut"] == sum(len(tokenizer.encode(text)) > longest for text in everything)


def test_names_of_files_say_the_split_and_copies_are_not_learned(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", [*rows(0, 6), *rows(0, 1), *rows(20, 21)])
    write(tmp_path / "dev.jsonl", rows(20, 23))
    write(tmp_path / "test.jsonl.gz", rows(3, 4))
    found = prepare(summarization, Config(data=str(tmp_path), vocab_size=300))
    assert [len(found.stores[s]) for s in ("train", "valid", "test")] == [5, 3, 1] and found.facts["copies"] == 3
    learned = {text for text, _ in held(found, "train")}
    assert not learned & {text for part in ("valid", "test") for text, _ in held(found, part)}
    tested = corpus(Config(data=str(tmp_path)), found.tokenizers, evaluated=True)
    assert [(Path(d.name).name, d.split) for d in tested.documents] == [("test.jsonl.gz:1", "valid")]
    assert tested.tokenizers[0] is found.tokenizers[0]


def test_which_names_say_a_split() -> None:
    def split(*names: str) -> dict[str, str] | None:
        found = named_splits([Path(name) for name in names])
        return None if found is None else {path.name: part for path, part in found.items()}

    assert split("train.a", "Val.b.gz", "more.c") == {"train.a": "train", "Val.b.gz": "valid", "more.c": "train"}
    assert split("train.a", "training.b") is None and split("dev.a", "test.a") is None and split() is None


BAD = [
    ("{", "line 1 is no JSON"),
    ("[1]", "line 1 is a list"),
    ({"text": "a"}, "line 1 has no field 'summary'; its fields are: 'text'"),
    ({}, "its fields are: none"),
    ({"text": 3, "summary": "a"}, "line 1: the field 'text' is neither a text nor a list of texts"),
    ({"text": "a", "summary": ["a", None]}, "the field 'summary' is neither"),
    ({"text": " \n", "summary": "a"}, "line 1: the field 'text' is empty"),
    ({"text": "a", "summary": ""}, "line 1: the field 'summary' is empty"),
    ({"text": "a", "summary": []}, "line 1: the field 'summary' is empty"),
    ({"text": "a", "summary": ["b", " "]}, "line 1: the field 'summary' is empty"),
    ('{"text": "\\ud800", "summary": "a"}', "line 1: a field holds half of a surrogate pair"),
]


@pytest.mark.parametrize(("bad", "reason"), BAD)
def test_a_bad_line_is_told_and_the_others_are_used(tmp_path: Path, bad: Any, reason: str) -> None:
    data = write(tmp_path / "a.jsonl", [bad, "", *rows(0, 3)])
    found = corpus(Config(data=str(data), vocab_size=300))
    assert len(list(found.documents)) == 3
    (left,) = found.skipped
    assert reason in left.reason and "1 lines are left out, 3 are used" in left.reason
    with pytest.raises(BadInput, match="--strict"):
        corpus(Config(data=str(data), strict=True))
    write(data, [bad])
    with pytest.raises(BadInput, match="none of 1 files can be used"):
        corpus(Config(data=str(data)))


def test_files_that_cannot_be_read_cost_no_others(tmp_path: Path) -> None:
    write(tmp_path / "good.jsonl", rows(0, 4))
    write(tmp_path / "windows.jsonl", rows(10, 12), ends="\r\n", before=b"\xef\xbb\xbf")
    (tmp_path / "bad.jsonl").write_bytes(b'{"text": "a", "summary": "b"}\n{"text": "\xff", "summary": "c"}\n')
    (tmp_path / "empty.jsonl").write_bytes(b"")
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"' * 1000)[:40])
    found = corpus(Config(data=str(tmp_path), vocab_size=300))
    assert len(list(found.documents)) == 6
    reasons = {skipped.path.name: skipped.reason for skipped in found.skipped}
    assert set(reasons) == {"bad.jsonl", "empty.jsonl", "cut.jsonl.gz"}
    assert "line 2" in reasons["bad.jsonl"] and "replace" in reasons["bad.jsonl"]
    again = corpus(Config(data=str(tmp_path), vocab_size=300, errors="replace"))
    assert len(list(again.documents)) == 8


def test_one_line_is_learned_from_and_nothing_held_out(tmp_path: Path) -> None:
    found = prepare(summarization, Config(data=str(write(tmp_path / "a.jsonl", rows(0, 1)))))
    assert len(found.stores["train"]) == 1 and "valid" not in found.stores
    (tmp_path / "a.jsonl").unlink()
    with pytest.raises(BadInput, match="no file of articles here"):
        corpus(Config(data=str(tmp_path)))
    write(tmp_path / "a.txt.gz", ["not for this"])
    with pytest.raises(BadInput, match="none of 0 files"):
        corpus(Config(data=str(tmp_path)))


def test_spellings_of_special_tokens_and_long_runs_are_text(tmp_path: Path) -> None:
    strange = "<|endoftext|> <pad> <bos> [MASK] </s> TL;DR: é \u2028 日本"
    row = {"text": strange, "summary": strange}
    data = write(tmp_path / "a.jsonl", [row, {"text": "a" * 1_000_000, "summary": "many"}, *rows(0, 2)])
    found = prepare(summarization, Config(data=str(data), vocab_size=300))
    texts = held(found, "train")
    assert texts[0] == (strange + CUE, " ".join(strange.split())) and found.facts["cut"] == 1
    assert set(texts[1][0].removesuffix(CUE)) == {"a"}


@pytest.mark.parametrize(
    "settings",
    [
        {"objective": seqmodal.config.Causal()}, {"vocab_size": 10}, {"vocab_size": 300, "tokenizer": "x"},
        {"errors": "ignore"}, {"article": 0}, {"beams": 0}, {"summary_tokens": 0}, {"valid_share": 0.1},
        {"strict": True}, {"text": "body"}, {"sampling": seqmodal.config.SamplingConfig(top_p=0.5)},
    ],
)  # fmt: skip
def test_settings_without_a_meaning(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        corpus(Config(**settings))


@pytest.fixture(scope="module")
def run(cache: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write(folder / "data" / "train.jsonl", rows(0, 20))
    valid = [{"text": text, "summary": [summary, "other"]} for text, summary in map(article, range(30, 36))]
    write(folder / "data" / "valid.jsonl", valid)
    write(folder / "data" / "test.jsonl", rows(40, 43))
    return seqmodal.train("summarization", out=folder / "run", data=str(folder / "data"), **TINY).folder


def test_a_run_is_judged_beside_leads(run: Path) -> None:
    """The figures are those of the summaries it wrote down."""
    found = json.loads((run / "judged.json").read_text())
    made = [json.loads(line) for line in (run / "summaries.jsonl").read_text().splitlines()]
    assert [(m["text"], m["references"]) for m in made] == [
        ("\n".join(sentences(t)), [s, "other"]) for t, s in map(article, range(30, 36))
    ]
    expected = rouge([m["summary"] for m in made], [m["references"] for m in made])
    assert {key: found[key] for key in expected} == pytest.approx(expected)
    firsts = rouge([sentences(m["text"])[0] for m in made], [m["references"] for m in made])
    assert found["lead1_rouge1"] == pytest.approx(firsts["rouge1"]) and 0 < found["nats_per_token"] < 10
    text = (run / "samples" / "step_000004.txt").read_text()
    assert text.count("reference: ") == 10 and text.count("summary: ") == 5
    tested = judge_run(run, data=str(run.parent / "data"))
    assert len((run / "evaluated" / "summaries.jsonl").read_text().splitlines()) == 3 and "rouge1_mean" not in tested


def summarized(capsys: pytest.CaptureFixture[str], *given: str) -> tuple[int, list[str], str]:
    code = main(["summarize", *given])
    out, err = capsys.readouterr()
    return code, out.split("\n")[:-1], err


def test_files_and_lines_are_summarized_in_order(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [article(seed)[0] for seed in (50, 51, 52)]
    plain = tmp_path / "a.txt"
    plain.write_text(texts[0], encoding="utf-8-sig")
    many = write(tmp_path / "b.jsonl", [{"text": texts[1]}, {"body": 1}, {"text": texts[2]}])
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "bad.txt").write_bytes(b"ok\n\xff")
    names = ["a.txt", "b.jsonl", "empty.txt", "bad.txt", "none.txt"]
    code, lines, err = summarized(capsys, str(run), *(str(tmp_path / name) for name in names))
    model, config = seqmodal.load(run), Config(data="x", summary_tokens=6, beams=2)
    expected = summarization.summarize(model, config, texts)
    assert code == 0 and lines == [expected[0], expected[1], "", expected[2], "", "", ""]
    assert "line 2 has no field 'text'; its fields are: 'body'" in err and "empty.txt: there is no text" in err
    assert "bad.txt" in err and "line 2" in err and "none.txt" in err
    assert summarized(capsys, str(run), str(tmp_path / "empty.txt"))[0] == 1
    lenient = summarized(capsys, str(run), str(tmp_path / "bad.txt"), "--errors", "replace", "--max-new-tokens", "2")
    assert lenient[0] == 0 and len(lenient[1]) == 1
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(plain.read_bytes()), isatty=lambda: False))
    assert summarized(capsys, str(run))[1] == [expected[0]]
    assert many.is_file()
    long = tmp_path / "long.txt"
    long.write_text("word " * 4000)
    told = summarized(capsys, str(run), str(long), str(plain))[2]
    assert f"1 of 2 texts were read up to token {config.article} only" in told


@pytest.mark.parametrize("share", [0.0, 0.3, 0.4])
def test_of_one_file_the_share_that_was_asked_for_is_held_out(tmp_path: Path, share: float) -> None:
    data = write(tmp_path / "a.jsonl", rows(0, 50))
    stores = prepare(summarization, Config(data=str(data), valid_share=share)).stores
    assert len(stores["valid"]) == round(50 * (share or 0.1))


def test_a_tokenizer_beside_the_model_s_own_is_refused(run: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "a.jsonl", rows(0, 9))
    with pytest.raises(ConfigError, match="tokenizer is /no/such, and the model has its own"):
        seqmodal.train("summarization", out=tmp_path / "no", data=str(data), init=str(run), tokenizer="/no/such")


def test_other_runs_do_not_summarize(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.yaml").write_text("recipe: language\n")
    code, _, err = summarized(capsys, str(tmp_path))
    assert code == 1 and "does not summarize" in err
    assert summarized(capsys, str(tmp_path / "none"))[0] == 1


DOCSTRINGS = '''
"""A module that says what it is for.

It explains itself at a length that is enough to be taken, which is about a hundred characters of text, or more.
"""
raise SystemExit("imported")


def taken():
    """What this function does, in a line.

    Then comes the explanation, which is long enough to be kept: at least a hundred characters of text behind it.

        And an indented example.
    """


class Left:
    """No full stop here

    Then comes the explanation, which is long enough to be kept: at least a hundred characters of text behind it."""

    async def short(self):
        """A line with little behind it.

        Little."""
'''


def test_docstrings_are_parsed_and_never_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pkg" / "tests").mkdir(parents=True)
    for place in ("a.py", "pkg/copy.py", "pkg/tests/b.py", "pkg/test_c.py"):
        (tmp_path / place).write_text(DOCSTRINGS)
    (tmp_path / "broken.py").write_text('"""not\n')
    (tmp_path / "bytes.py").write_bytes(b"# -*- coding: utf-8 -*-\n'\xff'")
    first, second = source.pairs(tmp_path / "a.py")
    assert first[0] == "A module that says what it is for." and first[1].startswith("It explains itself")
    assert second[0] == "What this function does, in a line." and "\n\n    And an indented" in second[1]
    monkeypatch.setattr(source, "_roots", lambda: iter([tmp_path]))
    found = list(source.docstrings())
    assert [(one.module, one.first) for one in found] == [(f"{tmp_path.name}/a.py", f) for f in (first[0], second[0])]


def test_without_data_whole_modules_are_held_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "This is what it explains, at some length, so that it is taken, number {}. " * 3
    made = [source.Docstring(f"m{n // 3}", f"It does thing {n} for you.", text.format(n, n, n)) for n in range(120)]
    monkeypatch.setattr(summarization, "docstrings", lambda: iter(made))
    found = corpus(Config(vocab_size=300))
    parts: dict[str, set[str]] = {}
    for document in found.documents:
        parts.setdefault(document.split, set()).add(document.name.split(":")[0])
    assert set(parts) == {"train", "valid"} and not parts["train"] & parts["valid"]
    assert len(parts["train"] | parts["valid"]) == 40 == found.facts["modules"] and found.facts["articles"] == 120


def test_the_libraries_have_docstrings_enough() -> None:
    """Of a part of what is read, so that the test is quick: as it is at the place where it is read."""
    roots = list(source._roots())
    assert len(roots) == 3 and all(root.is_dir() for root in roots)
    assert sum(len(source.pairs(path)) for path in source._files(roots[0] / "concurrent")) > 10
