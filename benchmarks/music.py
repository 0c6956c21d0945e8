"""What a music run can do, measured: prediction beside a trigram, past the context, speed, and its samples.

    python benchmarks/music.py runs/demo

Held out is the run's test part, which training never saw, or its validation part where there is no test part.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pretty_midi
import symusic

from seqmodal.config import SamplingConfig
from seqmodal.data.corpus import Prepared
from seqmodal.data.store import Store
from seqmodal.evaluation.likelihood import likelihood, reread_likelihood, streaming_likelihood
from seqmodal.evaluation.music import STATISTICS, overlap, statistics_of
from seqmodal.generation.constraint import BlockConstraint
from seqmodal.generation.loop import row_generators, stream
from seqmodal.model import Model, load
from seqmodal.sequence import compose


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60.0)
    args = parser.parse_args()
    model, stores = load(args.run), Prepared.open(args.run / "data").stores
    held = stores.get("test", stores["valid"])
    print(f"{args.run}: {model.decoder.config.num_parameters:,} parameters; {len(held)} pieces held out")
    beside_a_trigram(model, stores["train"], held)
    past_the_context(model, held)
    speed(model)
    samples(model, stores["train"], held, args.samples, args.seconds)


def beside_a_trigram(model: Model, train: Store, held: Store) -> None:
    """Nats per event of both over the same events, ends included."""
    found = likelihood(model.decoder, held, model.decoder.config.max_seq_len)
    end = model.tokenizers[0].vocab_size
    theirs, count = trigram([_events(train, end), _events(held, end)], end + 1)
    assert count == found.count
    print(f"nats per event: model {found.nats / found.count:.3f}, trigram {theirs / count:.3f}, {count:,} events")


def _events(store: Store, end: int) -> list[list[int]]:
    return [[*store[i].segments[0].ids.tolist(), end] for i in range(len(store))]


def trigram(splits: list[list[list[int]]], size: int) -> tuple[float, int]:
    """Nats of the second split, and its events, under a trigram of the first, smoothed by Witten and Bell (1991)."""
    counts: dict[tuple[int, ...], dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for events in splits[0]:
        past = (-1, -1)
        for event in events:
            for order in range(3):
                counts[past[2 - order :]][event] += 1
            past = (past[1], event)
    totals = {past: (sum(after.values()), len(after)) for past, after in counts.items()}
    nats, number = 0.0, 0
    for events in splits[1]:
        past = (-1, -1)
        for event in events:
            p = 1 / size
            for order in range(3):
                seen = totals.get(past[2 - order :])
                if seen is not None:
                    p = (counts[past[2 - order :]].get(event, 0) + seen[1] * p) / (seen[0] + seen[1])
            nats -= np.log(p)
            past = (past[1], event)
            number += 1
    return float(nats), number


def past_the_context(model: Model, held: Store, contexts: int = 6) -> None:
    """Teacher-forced loss of the events past the first context: the streaming cache, and re-reading half a context."""
    context = model.decoder.config.max_seq_len
    streamed, reread = [], []
    for number in np.argsort(-held.lengths, kind="stable")[:8]:
        ids = compose(held[int(number)], held.vocabulary, 0, contexts * context).ids
        if len(ids) > 2 * context:
            streamed.append(streaming_likelihood(model.decoder, ids)[context:])
            reread.append(reread_likelihood(model.decoder, ids, context)[context:])
    if not streamed:
        print(f"past the context: no piece is longer than {2 * context} events")
        return
    a, b = (float(np.concatenate(parts).mean()) for parts in (streamed, reread))
    print(f"nats per event past the context: streaming {a:.3f}, re-reading half a context {b:.3f}, {a - b:+.3f}")


def speed(model: Model, events: int = 4200) -> None:
    """Seconds an event around event 500 and 4,000, and how much faster than real time music is made."""
    tokenizer, block = model.tokenizers[0], model.vocabulary.block(model.tokenizers[0].name)
    grammar = tokenizer.grammar(seconds=3600.0, **tokenizer.limits)
    start = np.array([model.vocabulary.bos, block.begin], np.int32)
    times = [time.perf_counter()]
    for _ in stream(
        model.decoder.eval(), [start], max_new_tokens=events, generators=row_generators(1, 1),
        constraints=[BlockConstraint(model.vocabulary, tokenizer.name, grammar)],
    ):  # fmt: skip
        times.append(time.perf_counter())
    each = np.diff(times)
    early, late = (float(np.median(each[at - 200 : at + 200])) for at in (500, 4000))
    print(
        f"milliseconds an event: {1e3 * early:.2f} around event 500, {1e3 * late:.2f} around event 4,000 "
        f"({late / early:.2f} times); {grammar.seconds / (times[-1] - times[0]):.1f} times faster than real time"
    )


def samples(model: Model, train: Store, held: Store, count: int, seconds: float) -> None:
    """Samples from nothing: what decoding had to mend, what opens them, and how their statistics overlap."""
    tokenizer = model.tokenizers[0]
    how = SamplingConfig()
    made = model.sample(seconds=seconds, variations=count, seed=1, temperature=how.temperature, top_p=how.top_p)
    reports = [tokenizer.decode_report(one.ids) for one in made]
    repairs = sum(report.total for _, report in reports)
    hanging = sum(report.hanging for _, report in reports)
    opened = 0
    with tempfile.TemporaryDirectory() as folder:
        for number, one in enumerate(made):
            path = Path(folder) / f"{number}.mid"
            tokenizer.write(one.item, path)
            notes = len(symusic.Score(path).tracks[0].notes) if one.ids.size else 0
            opened += bool(
                mido.MidiFile(path).length > 0 and pretty_midi.PrettyMIDI(str(path)).get_end_time() > 0 and notes
            )
    lengths = [float(notes.duration) for notes, _ in reports]
    print(
        f"{count} samples of {seconds:.0f} s ({min(lengths):.1f} to {max(lengths):.1f} s): {repairs} repairs, "
        f"{hanging} hanging notes, {opened} open in mido, symusic and pretty_midi"
    )
    ours, theirs, known = (
        statistics_of(notes) for notes in ([n for n, _ in reports], _notes(tokenizer, held), _notes(tokenizer, train))
    )
    for name in STATISTICS:
        own, floor = overlap(ours[name], theirs[name]), overlap(known[name], theirs[name])
        print(f"overlap of {name:20} samples {own:.3f}, training data {floor:.3f}, share {own / floor:.2f}")


def _notes(tokenizer: Any, store: Store) -> list[Any]:
    return [tokenizer.decode_notes(store[i].segments[0].ids) for i in range(len(store))]


if __name__ == "__main__":
    main()
