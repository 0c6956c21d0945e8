"""Text to ids: this project's "text" beside tiktoken and Hugging Face's tokenizers, the same tokens, one run.

    python benchmarks/text_encoding.py [--data FILE_OR_FOLDER ...] [--bpe FOLDER] [--repeats 7] [--threads 2] [--json]

`--bpe` holds GPT-2's vocab.json and merges.txt, or encoder.json and vocab.bpe; without it 4,096 tokens are learned from
the texts. Without `--data` the text is the reference that comes with Python. Time is processor time from a str to ids,
on one thread, the best of the repeats, the three taking turns; tiktoken's is `encode_ordinary`, which gives a list,
ours gives a NumPy array. Files in parallel are timed by the clock, from the path to the ids.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from pydoc_data.topics import topics
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("RAYON_NUM_THREADS", "1")  # Hugging Face's threads; read when they are first used

import numpy as np
from tiktoken import Encoding
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from tokenizers_ext.text import GPT2_PATTERN, TextTokenizer

PAIRS = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))


def hugging_face(folder: Path | None, texts: list[str]) -> Any:
    """Hugging Face's tokenizer from the files, or learned from the texts."""
    words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if folder is not None:
        found = [(folder / a, folder / b) for a, b in PAIRS if (folder / a).is_file()]
        if not found:
            sys.exit(f"{folder}: neither {' nor '.join(' + '.join(pair) for pair in PAIRS)} there; give --bpe")
        other = Tokenizer(models.BPE.from_file(*map(str, found[0])))
        other.pre_tokenizer = words
        return other
    other = Tokenizer(models.BPE())
    other.pre_tokenizer = words
    trainer = trainers.BpeTrainer(
        vocab_size=4096, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    other.train_from_iterator(texts, trainer)
    return other


def best(calls: dict[str, Callable[[str], Any]], text: str, repeats: int) -> dict[str, float]:
    """Processor seconds of each, the best of the repeats, taking turns."""
    seconds = {name: float("inf") for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.process_time()
            call(text)
            seconds[name] = min(seconds[name], time.process_time() - start)
    return seconds


def clock(own: TextTokenizer, paths: list[Path], threads: int) -> float:
    """Seconds from the paths of all files to their ids."""
    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda path: own.encode(own.read(path)), paths))
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="*", default=[])
    parser.add_argument("--bpe", type=Path)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    paths = [p for given in options.data for p in (sorted(given.rglob("*.txt")) if given.is_dir() else [given])]
    if options.data and not paths:
        sys.exit("no .txt file there; give files or a folder with --data")
    reader = TextTokenizer(errors="replace")
    texts = {path.name: reader.read(path) for path in paths} or {"pydoc_data": "\n".join(sorted(topics.values()))}

    other = hugging_face(options.bpe, list(texts.values()))
    with TemporaryDirectory() as folder:
        file = Path(folder) / "tokenizer.json"
        other.save(str(file))
        start = time.perf_counter()
        own = TextTokenizer.load(options.bpe or file, errors="replace")
        loading = time.perf_counter() - start
    saved = own.to_dict()
    ends = np.cumsum(saved["lengths"])
    whole = saved["tokens"].tobytes()
    ranks = {whole[end - n : end]: id for id, (end, n) in enumerate(zip(ends, saved["lengths"], strict=True)) if n}
    peer = Encoding("peer", pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": len(ends)})

    calls = {"ours": own.encode, "tiktoken": peer.encode_ordinary, "tokenizers": other.encode}
    rows: list[dict[str, Any]] = []
    for name, text in texts.items():
        ids = own.encode(text).tolist()
        rows.append(
            {
                "text": name,
                "megabytes": len(text.encode()) / 1e6,
                "tokens": len(ids),
                "same_ids": ids == peer.encode_ordinary(text) == other.encode(text).ids,
                "comes_back": own.decode(np.array(ids)) == text,
                "seconds": best(calls, text, options.repeats),
            }
        )
    sums = {name: sum(row["seconds"][name] for row in rows) for name in calls}
    result = {
        "tokens_in_vocabulary": own.vocab_size,
        "seconds_to_load": loading,
        "texts": rows,
        "seconds": sums,
        "ours_over_tiktoken": sums["ours"] / sums["tiktoken"],
    }
    if paths:
        result["clock_of_files"] = {
            n: min(clock(own, paths, n) for _ in range(options.repeats)) for n in (1, options.threads)
        }
    if options.json:
        print(json.dumps(result, indent=1))
        return
    print(f"{own.vocab_size:,} tokens, loaded in {loading:.2f} s; megabytes a second, best of {options.repeats}")
    for row in rows:
        speeds = "   ".join(f"{name} {row['megabytes'] / row['seconds'][name]:6.2f}" for name in calls)
        note = "same ids, comes back" if row["same_ids"] and row["comes_back"] else "DIFFERENT"
        print(f"{row['text']:14s}{row['megabytes']:7.3f} MB {row['tokens']:9,} ids   {speeds}   {note}")
    print(f"all: ours takes {result['ours_over_tiktoken']:.3f} of tiktoken's time")
    for threads, seconds in result.get("clock_of_files", {}).items():
        print(f"all files from path to ids, {threads} threads: {seconds:.3f} s")


if __name__ == "__main__":
    main()
