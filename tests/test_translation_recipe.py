"""The recipe translation: what it takes of files, how it splits, what it measures, and a model that answers line by
line."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import seqmodal
from seqmodal.cli import main
from seqmodal.config import Causal
from seqmodal.data.corpus import Prepared, prepare
from seqmodal.errors import BadInput, ConfigError
from seqmodal.evaluation.translation import exact_share, translation_scores
from seqmodal.model.answers import _parts, answers, tags_of
from seqmodal.recipes import translation
from seqmodal.recipes.translation import Config
from seqmodal.training.judge import judge_run

TINY: dict[str, Any] = {
    "model": {"d_model": 32, "num_layers": 1, "num_heads": 2, "dropout": 0.0},
    "training": {"steps": 4, "batch_size": 4, "evaluations": 2, "samples": 1, "threads": 1},
    "beams": 2,
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQMODAL_CACHE", str(tmp_path / "cache"))


def pairs(prepared: Prepared, split: str) -> list[tuple[str, str, str, str]]:
    """Kind, tag, source and target of each document."""
    text = prepared.tokenizers[0]
    tags = {one.name: one for one in prepared.tokenizers[1:]}
    found, store = [], prepared.stores[split]
    for number, name in enumerate(store.names):
        source, tag, target = store[number].segments
        assert source.both_ways and (source.loss, tag.loss, target.loss) == (0, 0, 1)
        (asked,) = tags[tag.block].decode(tag.ids)
        found.append((name.split("\t")[0], asked, text.decode(source.ids), text.decode(target.ids)))
    return found


def folder_of(place: Path, **files: str | bytes) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (place / name.replace("__", ".")).write_bytes(text.encode() if isinstance(text, str) else text)
    return place


WORDS = [f"word{n} is {'abcdefghij'[n % 10] * (n % 7 + 1)}" for n in range(60)]
ENGLISH = "".join(f"{word}\n" for word in WORDS)
GERMAN = "".join(f"{word.upper()}\n" for word in WORDS)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("translation")
    folder_of(base / "data", train__en=ENGLISH, train__de=GERMAN, val__en="new words\n", val__de="NEW WORDS\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQMODAL_CACHE", str(base / "cache"))
        seqmodal.train("translation", data=str(base / "data"), out=base / "run", **TINY)
    return base / "run"


def test_aligned_files_give_both_directions_and_keep_their_split(tmp_path: Path) -> None:
    data = folder_of(
        tmp_path / "a", train__en=f"{ENGLISH}\nnew words\nalone\n", train__de=f"{GERMAN}\nNEW WORDS\n\n",
        val__en="new words\nlast", val__de="NEW WORDS\nLAST", test_2016__en="t", test_2016__de="T",
    )  # fmt: skip
    found = prepare(translation, Config(data=str(data)))
    train, valid = pairs(found, "train"), pairs(found, "valid")
    assert Counter(kind for kind, *_ in train) == {"en>de": 60, "de>en": 60}  # the pair held out as well is left out
    assert valid == [
        ("de>en", "en", "NEW WORDS", "new words"), ("en>de", "de", "new words", "NEW WORDS"),
        ("de>en", "en", "LAST", "last"), ("en>de", "de", "last", "LAST"),
    ]  # fmt: skip
    assert pairs(found, "test")[1] == ("en>de", "de", "t", "T")
    (row,) = csv.DictReader(io.StringIO((found.folder / "skipped.csv").read_text()))
    assert row["reason"].startswith("line 63 has nothing in de; in all 2 lines are left out, 122 pairs")
    one = prepare(translation, Config(data=str(data), directions=("de-en",)))
    assert {kind for kind, *_ in pairs(one, "train")} == {"de>en"} and one.tokenizers[1].names == ("en",)
    judged = prepare(translation, Config(data=str(data)), found.tokenizers, evaluated=True)
    assert pairs(judged, "valid") == [("de>en", "en", "T", "t"), ("en>de", "de", "t", "T")]


def test_a_table_of_three_languages_splits_by_row(tmp_path: Path) -> None:
    lines = [f"{w}\t{w.upper()}\t{w[::-1]}" for w in WORDS] + [f"{WORDS[3]}\tother\t", "one field"]
    data = folder_of(tmp_path / "a", all__tsv="en\tde\tfr\n" + "\n".join(lines))
    found = prepare(translation, Config(data=str(data / "all.tsv")))
    sides = {split: {p[2].lower() for p in pairs(found, split) if p[0] != "fr>en"} for split in ("train", "valid")}
    counts = Counter(kind for split in sides for kind, *_ in pairs(found, split))
    assert counts == {f"{a}>{b}": 60 + ((a, b) in (("en", "de"), ("de", "en"))) for a in ("en", "de", "fr")
                      for b in ("en", "de", "fr") if a != b}  # fmt: skip
    assert not sides["train"] & sides["valid"] and len(pairs(found, "valid")) >= 24
    assert found.tokenizers[1].names == ("de", "en", "fr")
    (row,) = csv.DictReader(io.StringIO((found.folder / "skipped.csv").read_text()))
    assert "line 62 has nothing in fr; in all 5 lines are left out" in row["reason"]
    bare = folder_of(tmp_path / "b", all__tsv="\n".join(lines[:60]))
    with pytest.raises(BadInput, match="name the columns with --languages"):
        prepare(translation, Config(data=str(bare)))
    named = prepare(translation, Config(data=str(bare), languages=("en", "de", "fr"), directions=("fr-de",)))
    assert sum(len(store) for store in named.stores.values()) == 60


def test_tasks_are_a_table_with_a_task(tmp_path: Path) -> None:
    lines = [f"shout\t{w}\t{w.upper()}\nparity\t{w}\t{'odd' if n % 2 else 'even'}" for n, w in enumerate(WORDS)]
    data = folder_of(tmp_path / "a", tasks__tsv="task\tsource\ttarget\n" + "\n".join(lines) + "\n\tx\ty\n")
    found = prepare(translation, Config(data=str(data)))
    assert found.tokenizers[1].names == ("parity", "shout")
    held = pairs(found, "valid")
    assert 0 < len(held) < 40 and {kind for kind, *_ in held} <= {"parity", "shout"}
    (row,) = csv.DictReader(io.StringIO((found.folder / "skipped.csv").read_text()))
    assert "line 122 has nothing in task" in row["reason"]
    bare = folder_of(tmp_path / "b", x__jsonl="".join(
        json.dumps({"source": w, "target": w.upper(), "id": "7"}) + "\n" for w in WORDS
    ))  # fmt: skip
    assert prepare(translation, Config(data=str(bare))).tokenizers[1].names == ("target",)
    odd = folder_of(tmp_path / "c", x__tsv="en\nlonely\n" + ENGLISH)
    with pytest.raises(BadInput, match="does not name two columns"):
        prepare(translation, Config(data=str(odd)))


def test_bad_files_are_listed_and_the_good_beside_them_used(tmp_path: Path) -> None:
    data = folder_of(
        tmp_path / "a", good__en=ENGLISH, good__de=GERMAN, short__en="a\nb\n", short__de="A\n", empty__tsv="",
        bad__en=b"a\n\xff\n", bad__de="A\nB\n", one__tsv="en\tde\n", crlf__tsv="\ufeffen\tde\r\nyes sir\tja\r\n",
        long__tsv="en\tde\n" + "a" * 1_000_000 + "\tA\nspecial\t<|endoftext|><bos><pad></s>[MASK]\n",
    )  # fmt: skip
    found = prepare(translation, Config(data=str(data), directions=("en-de",)))
    held = {(source, target) for split in found.stores for _, _, source, target in pairs(found, split)}
    assert len(held) == 62 and {("yes sir", "ja"), ("special", "<|endoftext|><bos><pad></s>[MASK]")} < held
    told = csv.DictReader(io.StringIO((found.folder / "skipped.csv").read_text()))
    reasons = {Path(row["path"]).name: row["reason"] for row in told}
    assert set(reasons) == {"short.de", "empty.tsv", "bad.en", "one.tsv", "long.tsv:2"}
    assert "ends after 1 lines, and short.en has a line 2" in reasons["short.de"]
    assert reasons["empty.tsv"].startswith("the file is empty") and reasons["one.tsv"] == "there is not one pair in it"
    assert "(line 2) is no UTF-8" in reasons["bad.en"] and "1 pairs have more than 128 tokens" in reasons["long.tsv:2"]
    specials = prepare(translation, Config(data=str(data))).vocabulary
    assert specials.names == ("special", "text", "tags")
    with pytest.raises(BadInput, match="is no UTF-8"):
        prepare(translation, Config(data=str(data), strict=True))
    alone = folder_of(tmp_path / "b", a__en="a\nb\n", a__de="A\n")
    with pytest.raises(BadInput, match=r"none of 2 files can be used\n.*it ends after 1 lines"):
        prepare(translation, Config(data=str(alone)))
    one = folder_of(tmp_path / "c", a__en="a\n", a__de="A\n")
    assert len(prepare(translation, Config(data=str(one), directions=("en-de",))).stores["train"]) == 1


def test_what_cannot_be_set() -> None:
    for wrong, said in (
        ({"objective": Causal()}, "takes prefix"), ({"directions": ("ende",)}, "a direction is 'ende'"),
        ({"directions": ("en-de",), "languages": ("en", "fr")}, "not between the languages en, fr"),
        ({"vocab_size": 9}, "at least 256"), ({"beams": 0}, "at least 1"),
        ({"length_penalty": -1.0}, "0 or a positive number"),
        ({"data": "a.tsv", "example": "tasks"}, "example means nothing"), ({"example": "x"}, "numbers or tasks"),
        ({"sampling": replace(Config().sampling, count=3)}, "sampling means nothing"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=said):
            Config(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="languages means nothing to the built-in"):
        translation.corpus(Config(languages=("en", "de")))


@pytest.mark.parametrize("example", ["numbers", "tasks"])
def test_the_built_in_example(monkeypatch: pytest.MonkeyPatch, example: Any) -> None:
    monkeypatch.setattr(translation, "SMALL", 20)
    monkeypatch.setattr(translation, "NUMBERS", 40)
    found = prepare(translation, Config(example=example))
    everything = {(kind, source): target for split in found.stores for kind, _, source, target in pairs(found, split)}
    assert len(everything) == 120 and set(found.stores) == {"train", "valid"}
    if example == "numbers":
        assert {kind for kind, _ in everything} == {"en>de", "de>en"}
        assert all(everything["de>en", target] == source for (kind, source), target in everything.items()
                   if kind == "en>de")  # fmt: skip
    else:
        assert all(
            everything["parity", source] == ("odd" if int(target) % 2 else "even")
            for (kind, source), target in everything.items() if kind == "digits"
        )  # fmt: skip
    train, valid = ({source for _, _, source, _ in pairs(found, split)} for split in ("train", "valid"))
    assert not train & valid


def test_a_run_is_judged_and_shows_its_answers(run: Path) -> None:
    judged = json.loads((run / "judged.json").read_text())
    assert {"nats_per_token", "bleu_en_de", "chrf_de_en", "exact_en_de"} < set(judged)
    assert judge_run(run) == pytest.approx(judged)
    shown = (run / "samples" / "step_000004.txt").read_text()
    assert "source     new words" in shown and "reference  NEW WORDS" in shown
    rows = list(csv.DictReader(io.StringIO((run / "answers_en_de.tsv").read_text()), delimiter="\t"))
    assert [row["reference"] for row in rows] == ["NEW WORDS"]
    config = seqmodal.load(run).decoder.config
    longest = max(int(s.lengths.max()) for s in Prepared.open(run / "data").stores.values())
    assert (config.max_seq_len, config.window) == (longest - 1, 0)


class _Stdin:
    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)


def translated(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, run: Path, data: bytes, *flags: str
) -> tuple[int, str, str]:  # fmt: skip
    monkeypatch.setattr(sys, "stdin", _Stdin(data))
    code = main(["translate", str(run), *flags])
    out, err = capsys.readouterr()
    return code, out, err


def test_lines_stay_lines(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    model = seqmodal.load(run)
    lines = ["word1 is bb", "", "  ", "word2 is <|endoftext|>", "ä" * 50, "word3", "word1 is bb"]
    code, out, err = translated(monkeypatch, capsys, run, "\r\n".join(lines).encode(), "--to", "de", "--beams", "2")
    assert code == 0 and "7 lines" in err
    found = out.split("\n")
    assert len(found) == 8 and found[7] == "" and found[1] == found[2] == "" and found[0] == found[6]
    for line, answer in zip(lines, found, strict=False):
        (alone,) = answers(model, [line], "de", beams=2, length_penalty=0.6)
        assert " ".join(alone.split()) == answer
    assert translated(monkeypatch, capsys, run, b"", "--to", "en")[:2] == (0, "")


def test_what_translate_refuses(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path) -> None:
    def says(data: bytes, *flags: str) -> tuple[int, str]:
        code, out, err = translated(monkeypatch, capsys, run, data, *flags)
        assert out == ""
        return code, err

    assert says(b"a\n", "--to", "fr") == (2, "error: 'fr' is not among what this model learned; there are: de, en\n")
    assert says(b"a\n") == (2, "error: nothing is asked for; there are: de, en\n")
    assert says(b"a\n", "--to", "de", "--task", "de")[0] == 2
    code, err = says(b"good\nba\xffd\n", "--to", "de")
    assert code == 1 and "byte 0xFF at 7 (line 2) is no UTF-8" in err
    assert translated(monkeypatch, capsys, run, b"ba\xffd\n", "--to", "de", "--errors", "replace")[0] == 0


def test_generate_says_what_to_use(run: Path, capsys: Any) -> None:
    assert main(["generate", str(run)]) == 2
    assert f"seqmodal translate {run} --to de < in.txt" in capsys.readouterr().err


def test_a_model_without_tags(run: Path) -> None:
    model = seqmodal.load(run)
    assert tags_of(model) == ("de", "en")
    bare = replace(model, tokenizers=model.tokenizers[:1])
    with pytest.raises(ConfigError, match="was not trained by the recipe translation"):
        answers(bare, ["a"], "de")


def test_long_texts_are_cut_at_spaces_and_nothing_is_lost(run: Path) -> None:
    text = seqmodal.load(run).tokenizer("text")
    said = " ".join(f"word{n}" for n in range(100))
    for source, most in ((said, 20), ("x" * 300, 16), ("a " * 40, 8)):
        cut = _parts(text, source.strip(), most)
        assert max(map(len, cut)) <= most and len(cut) > 2
        assert "".join(text.decode(ids) for ids in cut).replace(" ", "") == source.replace(" ", "")
    assert all(text.decode(ids).startswith("word") for ids in _parts(text, said, 20))
    (long,) = answers(seqmodal.load(run), [said], "de", beams=1)
    assert len(long.split()) > 1


def test_scores_are_sacrebleu_s() -> None:
    import sacrebleu

    hypotheses, references = ["ein Mann geht .", "zwei Hunde", " Drei"], ["ein Mann geht.", "zwei Katzen", "Drei "]
    found = translation_scores(hypotheses, references)
    assert found.bleu == pytest.approx(sacrebleu.corpus_bleu(hypotheses, [references]).score)
    assert found.chrf == pytest.approx(sacrebleu.corpus_chrf(hypotheses, [references]).score)
    assert found.exact == pytest.approx(1 / 3) and exact_share([], []) == 0
    assert "tok:13a" in found.signatures[0] and f"version:{sacrebleu.__version__}" in found.signatures[0]


def test_the_tokenizer_learns_from_the_training_part_alone(tmp_path: Path) -> None:
    secret = "zyxwvutsrq zyxwvutsrq zyxwvutsrq"
    data = folder_of(
        tmp_path / "a", train__en=ENGLISH, train__de=GERMAN, val__en=f"{secret}\n" * 50, val__de=f"{secret}\n" * 50
    )  # fmt: skip
    text = prepare(translation, Config(data=str(data), vocab_size=400)).tokenizers[0]
    assert len(text.encode("zyxwvutsrq")) == 10 and len(text.encode("word")) < 4
    assert text.decode(text.encode(secret)) == secret


def test_languages_name_columns_and_never_turn_them_round(tmp_path: Path) -> None:
    """A header that has them is one, in whatever order, and with columns beside them."""
    rows = "".join(f"wort {n}\tword {n}\tmot {n}\n" for n in range(40))
    (tmp_path / "a.tsv").write_text("de\ten\tfr\n" + rows)
    how: dict[str, Any] = {"languages": ("en", "de"), "directions": ("en-de",), "data": str(tmp_path / "a.tsv")}
    found = prepare(translation, Config(**how))
    held = [pair for split in found.stores for pair in pairs(found, split)]
    assert len(held) == 40 and all(kind == "en>de" and a[:5] == "word " and b[:5] == "wort " for kind, _, a, b in held)


def test_a_direction_without_pairs_is_refused(tmp_path: Path) -> None:
    data = folder_of(tmp_path / "a", a__en=ENGLISH, a__de=GERMAN)
    with pytest.raises(ConfigError, match="of the direction en-xx there is not one pair; there are en-de"):
        prepare(translation, Config(data=str(data), directions=("en-de", "en-xx")))
    tasks = folder_of(tmp_path / "b", t__tsv="source\ttarget\n" + "".join(f"{w}\t{w}\n" for w in WORDS))
    with pytest.raises(ConfigError, match="of the direction en-de there is not one pair; there are target"):
        prepare(translation, Config(data=str(tasks), directions=("en-de",)))


def test_a_field_that_is_missing_is_told_with_those_there_are(tmp_path: Path) -> None:
    rows = [{"id": n, "en": f"word {n}", "de": f"wort {n}"} for n in range(30)]
    del rows[0]["de"]
    data = folder_of(tmp_path / "a", a__jsonl="".join(json.dumps(row) + "\n" for row in rows))
    found = prepare(translation, Config(data=str(data), directions=("en-de",)))
    assert found.facts["pairs en>de"] == 29
    assert "line 1 has no field 'de'; its fields are: 'en'" in (found.folder / "skipped.csv").read_text()


def test_a_file_beside_the_one_that_is_given_is_not_forgotten(tmp_path: Path) -> None:
    """The cache goes by both."""
    data = folder_of(tmp_path / "a", train__en=ENGLISH, train__de=GERMAN)
    first = prepare(translation, Config(data=str(data / "train.en")))
    (data / "train.de").write_text(GERMAN.replace("wort", "Wort"))
    assert prepare(translation, Config(data=str(data / "train.en"))).folder != first.folder
    assert len(translation.read_beside(Config(data=str(data / "train.en")))) == 2


def test_names_of_tasks_may_be_anything(tmp_path: Path) -> None:
    rows = [{"task": f"yes/no: {'ab'[n % 2]}", "source": f"line {n}\nand more", "target": "y\tn"} for n in range(60)]
    data = folder_of(tmp_path / "a", a__jsonl="".join(json.dumps(row) + "\n" for row in rows))
    run = seqmodal.train("translation", data=str(data), out=tmp_path / "run", vocab_size=300, **TINY)
    assert {"accuracy_yes_no_a", "accuracy_yes_no_b"} < set(run.metrics)
    told = list(csv.reader((tmp_path / "run" / "answers_yes_no_a.tsv").open(newline=""), "excel-tab"))
    assert told[0] == ["source", "reference", "answer"] and {len(row) for row in told} == {3}
    assert all(row[1] == "y\tn" and "\nand more" in row[0] for row in told[1:])


def test_a_run_goes_on_with_another_language_and_task(tmp_path: Path) -> None:
    data = folder_of(tmp_path / "a", a__en=ENGLISH, a__de=GERMAN)
    first = seqmodal.train("translation", data=str(data), out=tmp_path / "one", vocab_size=300, **TINY)
    more = folder_of(tmp_path / "b", a__en=ENGLISH, a__de=GERMAN, a__fr=GERMAN.replace("wort", "mot"))
    go_on: dict[str, Any] = {"init": str(first.folder), "training": TINY["training"]}
    with pytest.raises(ConfigError, match="vocab_size is 999, and that of the model 300"):
        seqmodal.train("translation", data=str(more), out=tmp_path / "no", vocab_size=999, **go_on)
    second = seqmodal.train("translation", data=str(more), out=tmp_path / "two", **go_on)
    old, new = (seqmodal.load(run.folder) for run in (first, second))
    assert tags_of(old) == ("de", "en") and tags_of(new) == ("de", "en", "fr")
    for name in ("text", "tags"):
        assert old.vocabulary.block(name) == new.vocabulary.block(name)
    assert len(answers(new, ["word0 is a"], "fr")) == len(answers(new, ["word0 is a"], "de")) == 1
    with pytest.raises(BadInput, match="'fr' is asked for, and the model learned de, en"):
        judge_run(first.folder, data=str(more))
    assert "bleu_en_fr" in judge_run(second.folder, data=str(more))


def test_what_is_printed_beside_the_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """The signatures, and how many of how many texts were judged."""
    monkeypatch.setattr(translation, "JUDGED", 4)
    data = folder_of(tmp_path / "a", a__en=ENGLISH, a__de=GERMAN)
    seqmodal.train("translation", data=str(data), directions=("en-de",), out=tmp_path / "run", vocab_size=300, **TINY)
    told = capsys.readouterr().err
    assert "tok:13a" in told and "chrF2" in told and "en>de: judged on 3 of 6 texts, evenly taken" in told
