"""Multi30k: BLEU against minutes, beside an encoder-decoder; sentences a second beside Hugging Face's `generate`.

    .venv/bin/python benchmarks/translation.py --out runs/translation --minutes 55                # en-de, de-en, both
    .venv/bin/python benchmarks/translation.py --out runs/translation --resume                    # go on where it was
    .venv/bin/python benchmarks/translation.py --out runs/translation --only en-de --peer         # nn.Transformer
    .venv-bench/bin/python benchmarks/translation.py --speed                                      # beside HF generate

Each model is trained by the recipe translation and kept a few times on the way; afterwards each of these translates the
test part with the same beam, and sacrebleu compares it with the references. The minutes are those of training. The
encoder-decoder is `torch.nn.Transformer` with as many parameters, on the same pairs, byte-pair encoding, batches,
label smoothing and dropout, for the same seconds, with the schedule of Vaswani et al. (2017). What is done is kept in
`--out`. This file is a recipe as well: the one of that name, whose samples are models.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor, nn

import seqmodal
from seqmodal.checkpoint import save_model
from seqmodal.config import Prefix
from seqmodal.data.corpus import Prepared
from seqmodal.data.whole import WholeBatches
from seqmodal.evaluation.translation import translation_scores
from seqmodal.generation.beam import penalty
from seqmodal.model.answers import answers
from seqmodal.recipes.translation import Config, corpus, judge
from seqmodal.training.hardware import keep_freed_memory
from seqmodal.training.record import read_metrics

__all__ = ["Config", "corpus", "judge", "show"]

SHAPE: dict[str, Any] = {
    "d_model": 256, "num_layers": 5, "num_heads": 4, "dropout": 0.2, "tied_head": True, "embedding_norm": True,
}  # fmt: skip
TRAINING: dict[str, Any] = {
    "batch_size": 32, "matrix_lr": 0.02, "embedding_lr": 0.004, "weight_decay": 0.1, "label_smoothing": 0.1,
}  # fmt: skip
KEPT = 6
"""Times that a model is kept on the way."""
RUNS = {"en-de": ("en-de",), "de-en": ("de-en",), "both": ("en-de", "de-en")}
BEAMS, ALPHA = 4, 0.6


def show(model: Any, config: Config, folder: Path, step: int) -> list[Path]:
    """The model itself."""
    place = folder / f"step_{step:06}"
    place.mkdir()
    save_model(place, model.decoder, model.vocabulary, model.tokenizers, {"objective": "prefix"}, model.inputs)
    return [place]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/multi30k"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--minutes", type=float, default=55.0, help="of training, a model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="*", choices=RUNS, default=list(RUNS))
    parser.add_argument("--resume", action="store_true", help="go on with a training that was stopped")
    parser.add_argument("--peer", action="store_true", help="train the encoder-decoder as well")
    parser.add_argument("--speed", action="store_true", help="only sentences a second, beside Hugging Face")
    parser.add_argument("--sentences", type=int, default=1000, help="of --speed")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.speed:
        speed(args.sentences)
        return
    if args.out is None:
        parser.error("--out is needed")
    tests = {
        direction: tuple(_lines(args.data / f"test_2016_flickr.{name}") for name in direction.split("-"))
        for direction in ("en-de", "de-en")
    }
    for name in args.only:
        run = args.out / name
        if not (run / "judged.json").is_file():
            if args.resume and (run / "config.yaml").is_file():
                seqmodal.train(run, resume=True)
            else:
                seqmodal.train(
                    __file__, data=str(args.data), directions=RUNS[name], vocab_size=6000, out=run, model=SHAPE,
                    training={**TRAINING, "minutes": args.minutes, "threads": args.threads, "samples": KEPT},
                )  # fmt: skip
        curves = {direction: curve(run, direction, *tests[direction]) for direction in RUNS[name]}
        for direction, points in curves.items():
            peers = peer(run, direction, *tests[direction]) if args.peer and name != "both" else []
            print(f"\n{name}, {direction}\n| minutes | BLEU | chrF |\n|---|---|---|")
            for minutes, bleu, chrf in points:
                print(f"| {minutes:.1f} | {bleu:.2f} | {chrf:.2f} |")
            for minutes, bleu, chrf in peers:
                print(f"| {minutes:.1f}, encoder-decoder | {bleu:.2f} | {chrf:.2f} |")
            draw(points, peers, run / f"bleu_{direction}.png", f"{direction} by the model {name}, test_2016_flickr")


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def curve(run: Path, direction: str, sources: list[str], references: list[str]) -> list[tuple[float, float, float]]:
    """Minutes, BLEU and chrF of each model that was kept on the way."""
    seconds = {int(row["step"]): row["seconds"] for row in read_metrics(run / "metrics.csv")}
    known, found = run / f"curve_{direction}.json", {}
    if known.is_file():
        found = json.loads(known.read_text())
    for place in sorted((run / "samples").glob("step_*")):
        step = int(place.name.removeprefix("step_"))
        if place.name not in found:
            begun = time.perf_counter()
            made = answers(
                seqmodal.load(place), sources, direction.split("-")[1], beams=BEAMS, length_penalty=ALPHA
            )  # fmt: skip
            taken = time.perf_counter() - begun
            scores = translation_scores(made, references)
            nearest = min(seconds, key=lambda known: abs(known - step))
            found[place.name] = (seconds[nearest] / 60, scores.bleu, scores.chrf)
            print(f"{run.name} {direction} {place.name}: {scores.bleu:.2f}, {len(made) / taken:.1f} sentences/s "
                  f"({scores.signatures[0]})", flush=True)  # fmt: skip
            known.write_text(json.dumps(found, indent=1))
            (run / f"translations_{direction}.txt").write_text("\n".join(made) + "\n", encoding="utf-8")
    return [tuple(point) for point in found.values()]


def draw(points: list[Any], peers: list[Any], path: Path, title: str) -> None:
    """BLEU against minutes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for curve_of, color, label in ((points, "#e25834", "seqmodal"), (peers, "#54688a", "nn.Transformer")):
        if curve_of:
            axes.plot([p[0] for p in curve_of], [p[1] for p in curve_of], "o-", color=color, label=label)
    axes.set(xlabel="minutes", ylabel="BLEU", title=title)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
    print(path)


class EncoderDecoder(nn.Module):
    """The model of 2017, norms first, one table for both sides and the head."""

    def __init__(self, vocab: int, pad: int, width: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.pad, self.scale = pad, math.sqrt(width)
        self.table = nn.Embedding(vocab, width)
        nn.init.normal_(self.table.weight, std=width**-0.5)
        self.core = nn.Transformer(width, heads, layers, layers, 4 * width, dropout, batch_first=True, norm_first=True)
        self.dropout = nn.Dropout(dropout)
        at, rate = torch.arange(512)[:, None], torch.exp(torch.arange(0, width, 2) * (-math.log(1e4) / width))
        waves = torch.zeros(512, width)
        waves[:, 0::2], waves[:, 1::2] = torch.sin(at * rate), torch.cos(at * rate)
        self.register_buffer("waves", waves)

    def embed(self, ids: Tensor) -> Tensor:
        return self.dropout(self.table(ids) * self.scale + self.waves[: ids.shape[1]])

    def encode(self, source: Tensor) -> Tensor:
        return self.core.encoder(self.embed(source), src_key_padding_mask=source == self.pad)

    def decode(self, memory: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """Hidden states (B, T, D)."""
        causal = torch.ones(target.shape[1], target.shape[1], dtype=torch.bool).triu(1)
        return self.core.decoder(
            self.embed(target), memory, tgt_mask=causal, memory_key_padding_mask=source == self.pad
        )  # fmt: skip

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden @ self.table.weight.T


def peer(run: Path, direction: str, sources: list[str], references: list[str]) -> list[tuple[float, float, float]]:
    """The encoder-decoder after as many seconds of training as the run took, in the number format that it took; one
    point. What is trained is kept every few minutes, and gone on from."""
    known, kept = run / f"peer_{direction}.json", run / f"peer_{direction}.pt"
    if known.is_file():
        return [tuple(json.loads(known.read_text()))]
    model, prepared = seqmodal.load(run), Prepared.open(run / "data")
    vocabulary, train = prepared.vocabulary, prepared.stores["train"]
    precision = yaml.safe_load((run / "config.yaml").read_text())["training"]["precision"]
    wanted, shape = sum(p.numel() for p in model.decoder.parameters()), model.decoder.config
    layers = min(range(1, 9), key=lambda n: abs(wanted - _size(vocabulary.size, shape.d_model, n)))
    torch.manual_seed(0)
    keep_freed_memory()
    net = EncoderDecoder(vocabulary.size, vocabulary.pad, shape.d_model, layers, shape.num_heads, SHAPE["dropout"])
    print(f"encoder-decoder: {layers} + {layers} layers, {sum(p.numel() for p in net.parameters()):,} parameters, "
          f"ours {wanted:,}; {precision}", flush=True)  # fmt: skip
    batches = WholeBatches(
        train, context=shape.max_seq_len, batch_size=TRAINING["batch_size"], seed=0, objective=Prefix()
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=1.0, betas=(0.9, 0.98), eps=1e-9, fused=True)
    seconds, taken, step, warm = read_metrics(run / "metrics.csv")[-1]["seconds"], 0.0, 0, 1000
    if kept.is_file():
        held = torch.load(kept, weights_only=True)
        net.load_state_dict(held["net"])
        optimizer.load_state_dict(held["optimizer"])
        taken, step = held["taken"], held["step"]
    while taken < seconds:
        begun = time.perf_counter()
        source, target = _sides(batches.batch(step), vocabulary)
        step += 1
        optimizer.param_groups[0]["lr"] = 1.5 * shape.d_model**-0.5 * min(step**-0.5, step * warm**-1.5)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            hidden = net.decode(net.encode(source), source, target[:, :-1])
            loss = nn.functional.cross_entropy(
                net.logits(hidden).flatten(0, 1), target[:, 1:].flatten(), ignore_index=vocabulary.pad,
                label_smoothing=TRAINING["label_smoothing"],
            )  # fmt: skip
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        taken += time.perf_counter() - begun
        if step % 200 == 0:
            print(f"encoder-decoder step {step} loss {float(loss):.3f} {taken:.0f} s", flush=True)
            state = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "taken": taken, "step": step}
            torch.save(state, kept)
    net.eval()
    text = prepared.tokenizers[0]
    made = [text.decode(ids) for ids in _searched(net, vocabulary, [text.encode(source) for source in sources])]
    scores = translation_scores(made, references)
    print(f"encoder-decoder: {step} steps, BLEU {scores.bleu:.2f}", flush=True)
    known.write_text(json.dumps((taken / 60, scores.bleu, scores.chrf)))
    return [(taken / 60, scores.bleu, scores.chrf)]


def _size(vocab: int, width: int, layers: int) -> int:
    return sum(p.numel() for p in EncoderDecoder(vocab, 0, width, layers, 4, 0.0).parameters())


def _sides(batch: Any, vocabulary: Any) -> tuple[Tensor, Tensor]:
    """Source, and target from begin to end, of a batch of documents, padded."""
    sources, targets = [], []
    for ids, span, document in zip(batch.ids, batch.span, batch.document, strict=True):
        ids, span = ids[document == 0], span[document == 0]
        sources.append(ids[span > 0])
        begin = int(np.flatnonzero(ids == vocabulary.block("text").begin)[-1])
        targets.append(ids[begin:])
    return _padded(sources, vocabulary.pad), _padded(targets, vocabulary.pad)


def _padded(rows: list[np.ndarray], pad: int) -> Tensor:
    longest = max(map(len, rows))
    return torch.from_numpy(np.stack([np.pad(row, (0, longest - len(row)), constant_values=pad) for row in rows]))


@torch.inference_mode()
def _searched(net: EncoderDecoder, vocabulary: Any, sources: list[np.ndarray]) -> Iterator[np.ndarray]:
    """The same beam search, one sentence at a time and without a cache: slow, and plain to see."""
    block = vocabulary.block("text")
    barred = torch.ones(vocabulary.size, dtype=torch.bool)
    barred[block.content_slice], barred[block.end] = False, False
    for ids in sources:
        source = torch.tensor([[block.begin, *vocabulary.to_global("text", ids).tolist(), block.end]])
        memory, most = net.encode(source), 2 * len(ids) + 16
        live: list[tuple[float, list[int]]] = [(0.0, [block.begin])]
        best: tuple[float, list[int]] = (-math.inf, [])
        for length in range(1, most + 1):
            rows = torch.tensor([new for _, new in live])
            hidden = net.decode(memory.expand(len(live), -1, -1), source.expand(len(live), -1), rows)[:, -1]
            scores = net.logits(hidden).masked_fill(barred, -math.inf).log_softmax(-1)
            top, at = scores.topk(2 * BEAMS)
            grown = sorted(
                ((total + float(s), [*new, int(i)]) for (total, new), row, ids_ in zip(live, top, at, strict=True)
                 for s, i in zip(row, ids_, strict=True)), key=lambda one: -one[0],
            )  # fmt: skip
            live = []
            for total, new in grown:
                if len(live) == BEAMS:
                    break
                if new[-1] == block.end or length == most:
                    best = max(best, (total / penalty(length, ALPHA), new), key=lambda one: one[0])
                else:
                    live.append((total, new))
            if not live or best[0] >= live[0][0] / penalty(most, ALPHA):
                break
        new = [id for id in best[1][1:] if id != block.end]
        yield vocabulary.to_local("text", np.array(new, np.int32))


def speed(sentences: int, rounds: int = 3) -> None:
    """Texts a second of a beam search over random weights of one shape, the same here and there, in batches of like
    length: sentences of 10 to 25 tokens and 20 new ones, and articles of 150 to 256 and 40. Medians; the two take
    turns, the first round is not counted."""
    from generation import pair
    from hugging_face import GPT2Config

    from seqmodal.generation.beam import beam_search

    print("| | batch | seqmodal, texts/s | Hugging Face | ratio |\n|---|---|---|---|---|")
    for what, shape, (least, most), new in (
        ("sentences", {"vocab_size": 6000, "n_positions": 128, "n_embd": 256, "n_layer": 5}, (10, 26), 20),
        ("articles", {"vocab_size": 2048, "n_positions": 320, "n_embd": 128, "n_layer": 3}, (150, 257), 40),
    ):
        config = GPT2Config(**shape, n_head=4, bos_token_id=1, eos_token_id=2)
        theirs, ours = pair(config, 0.02)
        rng = np.random.default_rng(0)
        lengths = np.sort(rng.integers(least, most, sentences)).tolist()
        prompts = [rng.integers(3, config.vocab_size, length) for length in lengths]
        for size in (16, 64):
            seconds: dict[bool, list[float]] = {True: [], False: []}
            for _ in range(1 + rounds):
                for here, taken in seconds.items():
                    begun = time.perf_counter()
                    for first in range(0, sentences, size):
                        rows = prompts[first : first + size]
                        if here:
                            beam_search(ours, rows, beams=BEAMS, max_new_tokens=new)
                        else:
                            _generate(theirs, rows, new)
                    taken.append(time.perf_counter() - begun)
            rates = [sentences / statistics.median(taken[1:]) for taken in seconds.values()]
            print(f"| {what} | {size} | {rates[0]:.1f} | {rates[1]:.1f} | {rates[0] / rates[1]:.2f} |", flush=True)


@torch.inference_mode()
def _generate(theirs: Any, rows: list[np.ndarray], new: int) -> None:
    """Beam search of Hugging Face."""
    longest = max(map(len, rows))
    ids = torch.tensor([[0] * (longest - len(row)) + row.tolist() for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    theirs.generate(
        ids, attention_mask=mask, num_beams=BEAMS, do_sample=False, min_new_tokens=new, max_new_tokens=new,
        pad_token_id=0,
    )  # fmt: skip


if __name__ == "__main__":
    main()
