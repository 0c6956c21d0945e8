"""SciTLDR: summaries of abstracts from scratch, after pre-training on text, and the leads, on the official test part.

Pre-training takes text (abstracts of the training part, the Canterbury texts, docstrings, Python's reference) and has
no person's summaries: from a text, half of its sentences and the first one are to be written, so that the model learns
to copy, and from an abstract its title. Nothing of the official dev and test parts is in it. Fine-tuning takes the same
steps from scratch and after it, on each share of the training part: a table, and a picture in `--out`. Each stage goes
on where it stopped; one that is finished is not made again.

    .venv/bin/python benchmarks/summarization.py --out /tmp/scitldr [--steps 700 350] [--shares 0.01 0.1 1] [--resume]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

import seqmodal
from seqmodal.data.docstrings import docstrings
from seqmodal.errors import RunExists
from seqmodal.evaluation.rouge import leads, rouge, sentences, signature
from seqmodal.training.recipe import recipe_of_run
from seqmodal.training.record import read_metrics

SHAPE = {"d_model": 128, "num_layers": 3, "num_heads": 2}
FIELDS = {"text": "source", "summary": "target"}
ARTICLE, SIZE = 256, 2048
BATCH = 8
"""Of the longest documents in a step."""
PASSAGE, PASSAGES, LONGEST = 7, 1500, 500
"""Sentences of a piece of other text, how many of them there are, and characters of what is to be copied."""


def lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a .jsonl."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def passages(data: Path) -> Iterator[list[str]]:
    """Sentences that follow one another in text that is no abstract."""
    from pydoc_data.topics import topics

    books = [path.read_text(encoding="utf-8") for path in sorted((data / "canterbury").glob("*.txt"))]
    texts = [*books, *topics.values()]
    texts += [f"{one.first}\n{one.rest}" for one in docstrings()]
    kept: list[str] = []
    for text in texts:
        kept += [s for s in map(" ".join, map(str.split, sentences(text.replace("\n", " ")))) if prose(s)]
        while len(kept) >= PASSAGE:
            yield kept[:PASSAGE]
            kept = kept[PASSAGE:]


def prose(text: str) -> bool:
    """Whether a sentence is of words and of the usual length."""
    return 30 <= len(text) <= 300 and sum(letter.isalpha() or letter == " " for letter in text) > 0.9 * len(text)


def write_pretraining(data: Path, out: Path) -> None:
    """`pairs.jsonl`, whose texts have as summaries a title or sentences of their own."""
    known = {" ".join(one["source"]) for part in ("dev", "test") for one in lines(data / "scitldr" / f"{part}.jsonl")}
    abstracts = [one for one in lines(data / "scitldr" / "train.jsonl") if " ".join(one["source"]) not in known]
    rng = np.random.default_rng(0)
    rows = [([s.strip() for s in one["source"] if s.strip()], [one["title"]]) for one in abstracts]
    others = list(passages(data))
    rows += [(others[at], []) for at in rng.choice(len(others), min(PASSAGES, len(others)), replace=False).tolist()]
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "pairs.jsonl", "w", encoding="utf-8") as pairs:
        for number in rng.permutation(len(rows)).tolist():
            parts, summaries = rows[number]
            several = np.sort(rng.choice(len(parts), -(-len(parts) // 2), replace=False)).tolist()
            summaries = [*summaries, parts[0], " ".join(parts[at] for at in several)[:LONGEST]]
            pairs.write(json.dumps({"text": parts, "summary": [s for s in summaries if s.strip()]}) + "\n")


def stage(out: Path, resume: bool, **settings: Any) -> Path:
    """The run in `out`, trained unless it is finished."""
    if not (out / "judged.json").is_file():
        if (out / "config.yaml").is_file():
            if not resume:
                raise RunExists(f"{out} is not finished; go on with --resume")
            seqmodal.train("summarization", out=out, resume=True)
        else:
            seqmodal.train("summarization", out=out, **settings)
    return out


def tested(run: Path, file: Path) -> dict[str, float]:
    """ROUGE of a run on all articles of a file; the summaries are kept beside the run."""
    module, config = recipe_of_run(run)
    test = lines(file)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"summarizing by {run.name}", total=len(test))
        texts = ["\n".join(one["source"]) for one in test]
        made = module.summarize(
            seqmodal.load(run), config, texts, progress=lambda done, total: bar.update(task, completed=done)
        )  # fmt: skip
    (run / "test.txt").write_text("\n".join(made) + "\n", encoding="utf-8")
    return rouge(made, [one["target"] for one in test])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, nargs=2, default=(700, 350), help="of pre-training, of fine-tuning")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.01, 0.1, 1.0], help="of the training pairs")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--resume", action="store_true", help="go on where it stopped")
    args = parser.parse_args()
    how: dict[str, Any] = {"threads": args.threads, "samples": 1, "evaluations": 5, "batch_size": BATCH}
    articles, made = args.data / "scitldr", args.out / "data"
    if not (made / "pairs.jsonl").is_file():
        write_pretraining(args.data, made)
    new: dict[str, Any] = {"vocab_size": SIZE, "model": SHAPE, "article": ARTICLE}
    pairs = stage(
        args.out / "pairs", args.resume, data=str(made / "pairs.jsonl"), valid_share=0.02, sampling={"count": 50},
        training=how | {"steps": args.steps[0]}, **new,
    )  # fmt: skip
    fine: dict[str, Any] = {
        **FIELDS, "training": how | {"steps": args.steps[1]}, "sampling": {"count": 50}, "article": ARTICLE
    }  # fmt: skip
    test = lines(articles / "test.jsonl")
    lead = leads(["\n".join(one["source"]) for one in test], [one["target"] for one in test])
    found: dict[str, dict[float, dict[str, float]]] = {"from scratch": {}, "pre-trained": {}}
    for share in args.shares:
        data = some_of(articles, made / f"share_{share:g}", share)
        for name, start in (("from scratch", {k: new[k] for k in ("vocab_size", "model")}), ("pre-trained", {})):
            folder = args.out / f"{'scratch' if start else 'tuned'}_{share:g}"
            run = stage(folder, args.resume, data=str(data), **fine, **(start or {"init": str(pairs)}))
            cached = run / "test.json"
            if not cached.is_file():
                cached.write_text(json.dumps(tested(run, articles / "test.jsonl")))
            seconds = read_metrics(run / "metrics.csv")[-1]["seconds"]
            found[name][share] = json.loads(cached.read_text()) | {"seconds": seconds}
    print(signature())
    print("| SciTLDR test | pairs | ROUGE-1 | ROUGE-2 | ROUGE-Lsum | ROUGE-1, mean | share of lead-1 | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    rows = [(name, f"{share:.0%}", "", some) for name, held in found.items() for share, some in held.items()]
    rows += [(f"lead-{count}", "", f"lead{count}_", {**lead, "seconds": 0.0}) for count in (1, 3)]
    for name, share, prefix, some in rows:
        cells = [some[prefix + key] for key in ("rouge1", "rouge2", "rouge_lsum", "rouge1_mean")]
        part = cells[0] / lead["lead1_rouge1"]
        said = " | ".join(f"{cell:.2f}" for cell in cells)
        print(f"| {name} | {share} | {said} | {part:.0%} | {some['seconds']:.0f} |")
    draw(found, lead["lead1_rouge1"], args.out / "shares.png")


def some_of(articles: Path, out: Path, share: float) -> Path:
    """A folder with that share of the training part, always the same, and the whole of the others."""
    if share == 1:
        return articles
    out.mkdir(parents=True, exist_ok=True)
    whole = (articles / "train.jsonl").read_text(encoding="utf-8").splitlines()
    kept = np.sort(np.random.default_rng(0).permutation(len(whole))[: round(share * len(whole))])
    text = "".join(f"{whole[at]}\n" for at in kept.tolist())
    if not (out / "train.jsonl").is_file():
        (out / "train.jsonl").write_text(text, encoding="utf-8")
    for name in ("dev", "test"):
        if not (out / f"{name}.jsonl").is_file():
            (out / f"{name}.jsonl").symlink_to((articles / f"{name}.jsonl").resolve())
    return out


def draw(found: dict[str, dict[float, dict[str, float]]], lead: float, path: Path) -> None:
    """ROUGE-1 against the share of the pairs, with and without pre-training."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for (name, held), color in zip(found.items(), ("#54688a", "#e25834"), strict=True):
        shares = sorted(held)
        axes.plot([100 * s for s in shares], [held[s]["rouge1"] for s in shares], "o-", color=color, label=name)
    axes.axhline(lead, color="#999999", linestyle="--", label="the first sentence")
    axes.set(xscale="log", xlabel="% of the pairs", ylabel="ROUGE-1", title="SciTLDR test, by pairs to learn from")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
    print(path)


if __name__ == "__main__":
    main()
