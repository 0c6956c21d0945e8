"""The language recipe: what it takes of text files of every kind, and a model from there to its bits per byte."""

from __future__ import annotations

import csv
import gzip
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import seqmodal
from seqmodal.data.corpus import Prepared, prepare
from seqmodal.errors import BadInput, ConfigError
from seqmodal.recipes import language
from seqmodal.recipes.language import Config, corpus
from seqmodal.training.judge import judge_run
from tokenizers_ext.text import ByteTokenizer, CharacterTokenizer, suitable_size

WORDS = ["the", "sea", "was", "grey", "and", "boat", "went", "over", "it", "a", "bird", "sang", "behind", "far"]
SMALLEST: dict[str, Any] = {
    "model": {"d_model": 16, "num_layers": 1, "num_heads": 1, "max_seq_len": 64, "window": 16},
    "training": {"steps": 4, "batch_size": 2, "samples": 1, "evaluations": 1, "threads": 1},
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQMODAL_CACHE", str(tmp_path / "cache"))


def made_up(seed: int, words: int = 400) -> str:
    """Lines of words."""
    drawn = np.random.default_rng(seed).choice(WORDS, words)
    return "".join(f"{' '.join(drawn[at : at + 8])}.\n" for at in range(0, words, 8))


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def texts_of(prepared: Prepared, split: str) -> list[str]:
    """The documents of a split as text again, in order."""
    held, store = prepared.tokenizers[0], prepared.stores[split]
    return [held.decode(store[number].segments[0].ids) for number in range(len(store))]


def skipped(prepared: Prepared) -> dict[str, str]:
    with open(prepared.folder / "skipped.csv", newline="", encoding="utf-8") as file:
        return {Path(row["path"]).name: row["reason"] for row in csv.DictReader(file)}


@pytest.mark.parametrize("tokenizer", ["text", "bytes", "characters"])
def test_of_a_single_file_the_last_tenth_is_held_out(tmp_path: Path, tokenizer: str) -> None:
    text = made_up(0) + "é日\U0001f600 end"
    found = prepare(language, Config(data=str(write(tmp_path / "a.anything", text)), tokenizer=tokenizer))
    cut = int(0.9 * len(text))
    assert texts_of(found, "train") == [text[:cut]] and texts_of(found, "valid") == [text[cut:]]
    assert found.tokenizers[0].name == tokenizer and found.facts["characters"] == len(text)


def test_merges_are_learned_from_what_is_trained_on(tmp_path: Path) -> None:
    text = made_up(0) + "zyxwvutsrq " * 30
    found = prepare(language, Config(data=str(write(tmp_path / "a.txt", text)), valid_share=330 / len(text)))
    held = found.tokenizers[0]
    assert texts_of(found, "valid")[0].strip("zyxwvutsrq ") == ""
    assert len(held.encode(" behind")) == 1 and len(held.encode("zyxwvutsrq")) == 10


def test_of_several_files_whole_ones_are_held_out(tmp_path: Path) -> None:
    written = {made_up(seed) for seed in range(8)}
    for number, text in enumerate(sorted(written)):
        write(tmp_path / f"{number}.txt", text)
    found = prepare(language, Config(data=str(tmp_path), valid_share=0.25))
    assert len(texts_of(found, "valid")) == 2
    assert set(texts_of(found, "train")) | set(texts_of(found, "valid")) == written


def test_a_folder_may_say_itself_what_is_held_out(tmp_path: Path) -> None:
    for seed, split in enumerate(["train", "train", "valid", "test"]):
        write(tmp_path / split / f"{seed}.md", made_up(seed))
    found = prepare(language, Config(data=str(tmp_path)))
    assert [len(texts_of(found, split)) for split in ("train", "valid", "test")] == [2, 1, 1]
    tested = corpus(Config(data=str(tmp_path), tokenizer="bytes"), [ByteTokenizer()], evaluated=True)
    assert [(Path(d.name).name, d.split) for d in tested.documents] == [("3.md", "valid")]


def test_bad_files_stand_in_skipped_csv_and_the_good_ones_are_used(tmp_path: Path) -> None:
    data = tmp_path / "data"
    plain = [made_up(seed) for seed in range(5)]
    write(data / "plain.txt", plain[0])
    write(data / "windows.txt", b"\xef\xbb\xbf" + plain[1].replace("\n", "\r\n").encode())
    write(data / "packed.txt.gz", plain[2])
    write(data / "copy.txt", plain[0])
    write(data / "long.txt", "a" * 1_000_000)
    write(data / "one.txt", "one line without its end")
    write(data / "rows.jsonl.gz", "".join(json.dumps({"text": text}) + "\n\n" for text in plain[3:]))
    write(data / "empty.txt", b"")
    write(data / "latin.txt", (plain[0] + "caf\u00e9\n").encode("latin-1"))
    write(data / "cut.txt.gz", b"")
    (data / "cut.txt.gz").write_bytes(gzip.compress(plain[0].encode())[:-20])
    write(data / "other.jsonl", '{"body": "x", "id": 1}\n' * 3)
    write(data / "picture.png", b"no text")
    found = prepare(language, Config(data=str(data), tokenizer="bytes"))
    reasons = skipped(found)
    assert set(reasons) == {"plain.txt", "empty.txt", "latin.txt", "cut.txt.gz", "other.jsonl"}
    assert "the same text as" in reasons["plain.txt"] and "copy.txt" in reasons["plain.txt"]
    assert "empty" in reasons["empty.txt"] and "cut.txt.gz" not in reasons["empty.txt"]
    at = len((plain[0] + "caf").encode())
    assert f"byte 0xE9 at {at:,} (line {plain[0].count(chr(10)) + 1})" in reasons["latin.txt"]
    assert "--errors replace" in reasons["latin.txt"]
    assert "line 1 has no field 'text'; its fields are: 'body', 'id'" in reasons["other.jsonl"]
    used = sorted(text for split in found.stores for text in texts_of(found, split))
    assert used == sorted([*plain, "a" * 1_000_000, "one line without its end"])
    assert found.facts["files"] == 6 and found.facts["skipped"] == 5
    again = prepare(language, Config(data=str(data), tokenizer="bytes", errors="replace"))
    assert plain[0] + "caf\ufffd\n" in [text for split in again.stores for text in texts_of(again, split)]


def test_bad_lines_of_a_jsonl_cost_only_themselves(tmp_path: Path) -> None:
    lines = ['{"text": "first"}', "nonsense", '{"tekst": 1}', '["text"]', '{"text": 3}', '{"text": ""}',
             '{"text": "\\ud800"}', "[" * 5000, "", '{"text": "last\\r\\n"}']  # fmt: skip
    path = write(tmp_path / "a.jsonl", "\n".join(lines))
    found = prepare(language, Config(data=str(path), tokenizer="bytes"))
    assert texts_of(found, "train") == ["first"] and texts_of(found, "valid") == ["last\r\n"]
    reason = skipped(found)["a.jsonl"]
    assert "line 2 is no JSON" in reason and "7 lines are left out, 2 are used" in reason
    with pytest.raises(BadInput, match="line 2 is no JSON.*--strict"):
        corpus(Config(data=str(path), strict=True))
    given = prepare(language, Config(data=str(path), tokenizer="bytes", errors="replace"))
    assert texts_of(given, "train") == ["first", "?"]
    with pytest.raises(BadInput, match="none of 1 files can be used[^$]*line 1 has no field 'body'; its fields are"):
        corpus(Config(data=str(path), field="body"))


def test_text_longer_than_a_document_is_whole_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language, "LONGEST", 2_000_000)
    text = "".join(made_up(seed, 4000) for seed in range(220))
    assert len(text) > 3 << 20  # pieces of a megabyte each
    found = prepare(language, Config(data=str(write(tmp_path / "a.txt.gz", text)), tokenizer="bytes"))
    train, valid = texts_of(found, "train"), texts_of(found, "valid")
    assert len(train) > 1 and max(map(len, train)) <= 2_000_000
    assert "".join(train) == text[: int(0.9 * len(text))] and "".join(train + valid) == text


@pytest.mark.parametrize(("content", "learned"), [("a", ["a"]), ("ab", ["a"]), ("a line of text", ["a line of te"])])
def test_little_text(tmp_path: Path, content: str, learned: Sequence[str]) -> None:
    found = prepare(language, Config(data=str(write(tmp_path / "a.txt", content))))
    assert texts_of(found, "train") == learned
    assert "".join(text for split in found.stores for text in texts_of(found, split)) == content


def test_nothing_to_learn_from(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file or folder"):
        corpus(Config(data=str(tmp_path / "none")))
    write(tmp_path / "a.png", b"x")
    with pytest.raises(BadInput, match=r"there is no text here .*\.txt.*\.jsonl"):
        corpus(Config(data=str(tmp_path)))
    write(tmp_path / "a.txt", b"")
    with pytest.raises(BadInput, match="none of 1 files can be used[^$]*the file is empty"):
        corpus(Config(data=str(tmp_path)))
    with pytest.raises(BadInput, match=r"a\.txt: the file is empty .*--strict"):
        corpus(Config(data=str(tmp_path), strict=True))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"tokenizer": "words"}, "text, characters, bytes, or a folder"),
        ({"tokenizer": "bytes", "vocab_size": 500}, "vocab_size is 500"),
        ({"vocab_size": 100}, "at least 256"),
        ({"errors": "ignore"}, "strict or replace"),
        ({"sampling": replace(Config().sampling, seconds=3.0)}, "sampling.seconds means nothing"),
        ({"strict": True}, "strict means nothing"),
    ],
)
def test_settings_without_meaning(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        corpus(Config(**settings))


def test_how_many_tokens_are_learned() -> None:
    assert [suitable_size(n) for n in (0, 10**4, 10**6, 10**8, 10**12)] == [512, 512, 1024, 8192, 32768]


def test_the_built_in_text_has_no_paragraph_on_both_sides() -> None:
    found = prepare(language, Config())
    train, valid = ("\n\n".join(texts_of(found, split)) for split in ("train", "valid"))
    held = [paragraph for paragraph in valid.split("\n\n") if len(paragraph) > 100]
    assert len(held) > 50 and len(train) > 5 * len(valid) / 2
    assert sum(len(p) for p in held if p in train) < 0.02 * len(valid)


def test_a_run_from_text_to_bits_per_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language, "SHOWN", 20)
    path = write(tmp_path / "a.txt", made_up(1, 2000) + "é")
    run = seqmodal.train("language", data=str(path), out=tmp_path / "run", tokenizer="characters", **SMALLEST)
    assert {p.name for p in (run.folder / "samples").iterdir()} == {"step_000002.txt", "step_000004.txt"}
    model = seqmodal.load(run.folder)
    held = (made_up(1, 2000) + "é")[int(0.9 * (len(made_up(1, 2000)) + 1)) :]
    v = model.vocabulary
    begin, end = v.block("characters").begin, v.block("characters").end
    ids = np.concatenate([[v.bos, begin], v.to_global("characters", model.tokenizer().encode(held)), [end, v.eos]])
    nats, correct = 0.0, 0
    with torch.inference_mode():  # segments of 64 targets, as the model reads while it is judged
        for at in range(0, len(ids) - 1, 64):
            piece = torch.from_numpy(ids[at : at + 65].astype(np.int64))
            logits = model.decoder.logits(model.decoder(piece[None, :-1]).hidden)[0].double().log_softmax(-1)
            for place, target in enumerate(piece[1:].tolist(), at + 1):
                if 2 <= place < len(ids) - 1:  # neither the begin nor the last mark is a guess
                    nats -= float(logits[place - at - 1, target])
                    correct += int(logits[place - at - 1].argmax()) == target
    assert run.metrics["nats_per_token"] == pytest.approx(nats / (len(held) + 1), rel=1e-5)
    assert run.metrics["perplexity"] == pytest.approx(math.exp(nats / (len(held) + 1)), rel=1e-5)
    assert run.metrics["bits_per_byte"] == pytest.approx(nats / math.log(2) / len(held.encode()), rel=1e-5)
    assert run.metrics["next_token_accuracy"] == pytest.approx(correct / (len(held) + 1), abs=1e-9)
    assert judge_run(run.folder) == pytest.approx(run.metrics)
    other = judge_run(run.folder, data=str(write(tmp_path / "b.txt", made_up(2))))
    assert 0 < other["bits_per_byte"] < 8
    with pytest.raises(BadInput, match=r"b\.txt.*'ß' .U.00DF. at 0 is none of the"):
        judge_run(run.folder, data=str(write(tmp_path / "b.txt", "ß")))


def test_another_objective(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", made_up(1, 800))
    settings = {**SMALLEST, "model": {**SMALLEST["model"], "window": 0}}
    run = seqmodal.train("language", data=str(path), out=tmp_path / "run", objective="masked", **settings)
    assert set(run.metrics) == {"nats_per_target", "target_accuracy"}
    assert not list((run.folder / "samples").iterdir())


def test_characters_are_those_of_all_files(tmp_path: Path) -> None:
    for name in "abcd":
        write(tmp_path / f"{name}.txt", made_up(ord(name)) + name.upper())
    found = prepare(language, Config(data=str(tmp_path), tokenizer="characters"))
    held = found.tokenizers[0]
    assert isinstance(held, CharacterTokenizer) and set("ABCD") <= set(held.alphabet)
    assert set(found.stores) == {"train", "valid"} and not skipped(found)


@pytest.mark.parametrize("tokenizer", ["text", "characters"])
def test_documents_are_the_same_however_many_are_encoded_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: str
) -> None:
    for number in range(7):
        (tmp_path / f"{number}.txt").write_text(" ".join(WORDS[number:]) * (number + 1))
    found = []
    for together in (0, 300, 1 << 20):
        monkeypatch.setattr(language, "TOGETHER", together)
        made = corpus(Config(data=str(tmp_path), tokenizer=tokenizer))
        found.append([(d.name, d.split, d.segments[0].ids.tolist()) for d in made.documents])
    assert found[0] == found[1] == found[2] and len(found[0]) == 7
