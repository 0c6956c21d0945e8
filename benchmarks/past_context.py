"""The loss past the context, for every way to go on: characters of tiny Shakespeare, decoders trained on 128 of them.

Each decoder is trained for as many steps, then reads one stretch of the last tenth of the text as it reads while it
generates (`streaming_likelihood`): windowed layers and a memory forget, a decoder of full attention reads half its
context again. `inside` is the mean over the second half of each whole context, read alone; `past` over all that lies
beyond the first context of the stretch. `at once` reads segments of four contexts whole and counts what lies past the
first, which learned and sinusoidal positions cannot.

    .venv/bin/python benchmarks/past_context.py --data ../shared/data/tinyshakespeare/input.txt
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from memory import stores, trained

from seqmodal.config import (
    Alibi,
    Bucketed,
    DecoderConfig,
    Learned,
    NoPosition,
    Relative,
    Sinusoidal,
    TrainingConfig,
    TransformerXL,
)
from seqmodal.decoder import Decoder
from seqmodal.evaluation.likelihood import streaming_likelihood

CONTEXT = 128
SHAPE = DecoderConfig(d_model=128, num_layers=4, num_heads=4, max_seq_len=CONTEXT)
KINDS = {
    "rotary, window of 32": replace(SHAPE, window=32),
    "alibi, window of 32": replace(SHAPE, window=32, position=Alibi()),
    "rotary": SHAPE,
    "alibi": replace(SHAPE, position=Alibi()),
    "relative (Music Transformer)": replace(SHAPE, position=Relative(max_distance=CONTEXT)),
    "t5": replace(SHAPE, position=Bucketed()),
    "none": replace(SHAPE, position=NoPosition()),
    "learned": replace(SHAPE, position=Learned()),
    "sinusoidal": replace(SHAPE, position=Sinusoidal()),
    "transformer-xl, memory of 128": replace(SHAPE, position=TransformerXL(), memory=CONTEXT),
}


@torch.inference_mode()
def nats(decoder: Decoder, ids: np.ndarray, length: int) -> np.ndarray:
    """Nats of the targets of segments of that length, each read alone: (segments, length)."""
    tokens = torch.from_numpy(ids[: (len(ids) - 1) // length * length + 1].astype(np.int64))
    logits = decoder.logits(decoder(tokens[:-1].view(-1, length)).hidden)
    return torch.nn.functional.cross_entropy(logits.mT, tokens[1:].view(-1, length), reduction="none").numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/tinyshakespeare/input.txt"))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--characters", type=int, default=8192, help="of the held-out text")
    args = parser.parse_args()
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        text, held = stores(args.data, Path(folder))
        ids = text.vocabulary.to_global("characters", held[0].segments[0].ids[: args.characters])
        for name, config in KINDS.items():
            print(name, flush=True)
            config = replace(config, vocab_size=text.vocabulary.size)
            decoder = trained(config, TrainingConfig(steps=args.steps, batch_size=12), text)
            inside = nats(decoder, ids, CONTEXT)[:, CONTEXT // 2 :].mean()
            past = streaming_likelihood(decoder, ids)[CONTEXT:].mean()
            whole = np.nan if config.position.absolute else nats(decoder, ids, 4 * CONTEXT)[:, CONTEXT:].mean()
            rows[name] = inside, past, whole
    print(f"\n{'nats a character':32}{'inside':>9}{'past':>9}{'at once':>9}")
    for name, found in rows.items():
        print(f"{name:32}" + "".join("        -" if np.isnan(value) else f"{value:9.3f}" for value in found))


if __name__ == "__main__":
    main()
