"""Greedy generation with a cache, beside Hugging Face's `generate`, on the same random GPT-2 weights in float32.

Prints tokens a second (the median of some runs), the ratio, the share of the bound that the products of the weights
alone set on this machine (measured), whether the ids are the same, and what compiling took.

    .venv-bench/bin/python benchmarks/generation.py             # 6 layers, 384 wide
    .venv-bench/bin/python benchmarks/generation.py --gpt2      # GPT-2 small
    .venv-bench/bin/python benchmarks/generation.py --lookup --std 0.02    # repeats itself: look-up of n-grams
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from hugging_face import GPT2Config, GPT2LMHeadModel
from transformers import logging

from seqmodal.decoder import Decoder
from seqmodal.generation.draft import Lookup
from seqmodal.generation.loop import generate
from seqmodal.generation.probability import Sampler
from seqmodal.generation.speculative import speculate
from seqmodal.gpt2 import load_gpt2
from seqmodal.nn.linear import linear

GREEDY = Sampler(temperature=0.0)


def pair(config: Any, std: float) -> tuple[Any, Decoder]:
    """The same random weights here and there."""
    torch.manual_seed(0)
    theirs = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for weight in theirs.parameters():
            if weight.ndim == 2:
                weight.normal_(std=std)
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        return theirs, load_gpt2(folder).eval()


def products(decoder: Decoder, rows: int, runs: int = 30) -> float:
    """Tokens a second if a step were the products of its weights and nothing else, by PyTorch or by `nn/linear.py`, the
    faster of both."""
    weights = [p.detach() for name, p in decoder.named_parameters() if p.ndim == 2 and "position" not in name]
    inputs = {w.shape[1]: torch.randn(rows, w.shape[1]) for w in weights}
    medians = []
    with torch.inference_mode():
        for product in (torch.nn.functional.linear, lambda x, w: linear(x, (w, None))):
            times = []
            for _ in range(runs):
                start = time.perf_counter()
                for w in weights:
                    product(inputs[w.shape[1]], w)
                times.append(time.perf_counter() - start)
            medians.append(statistics.median(times))
    return rows / min(medians)


def speed(run: Callable[[], np.ndarray], count: int, runs: int) -> tuple[float, np.ndarray]:
    """Tokens a second, the median of some runs after one that is not counted, and what came out."""
    made = run()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        made = run()
        times.append(time.perf_counter() - start)
    return count / statistics.median(times), made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpt2", action="store_true")
    parser.add_argument("--lookup", action="store_true")
    parser.add_argument("--std", type=float, default=0.1, help="of the weights; at 0.02 text repeats itself")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--new", type=int, default=0, help="tokens to make; 0: 200, or 64 of GPT-2 small")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    args = parser.parse_args()
    logging.set_verbosity_error()
    small = {"vocab_size": 65, "n_positions": 256, "n_embd": args.width, "n_layer": 6, "n_head": args.width // 64}
    theirs, decoder = pair(GPT2Config(**({} if args.gpt2 else small), bos_token_id=0, eos_token_id=None), args.std)
    new = args.new or (64 if args.gpt2 else 200)
    print(f"{decoder.config.num_parameters:,} parameters, {new} tokens, {torch.get_num_threads()} threads, float32")
    rng = np.random.default_rng(0)
    for rows in args.batch:
        prompt = rng.integers(decoder.config.vocab_size, size=(rows, 16))
        if args.lookup:
            prompt = np.tile(prompt[:, :8], (1, 4))
        prompts, given = list(prompt), torch.from_numpy(prompt)

        def peer(given: torch.Tensor = given) -> np.ndarray:
            out = theirs.generate(
                given, attention_mask=torch.ones_like(given), max_new_tokens=new, min_new_tokens=new, do_sample=False,
                use_cache=True, pad_token_id=0,
            )
            return out[:, given.shape[1] :].numpy()

        def ours(prompts: list[np.ndarray] = prompts) -> np.ndarray:
            return np.stack([one.ids for one in generate(decoder, prompts, sampler=GREEDY, max_new_tokens=new)])

        def looked_up(prompts: list[np.ndarray] = prompts) -> np.ndarray:
            found, _ = speculate(decoder, prompts, draft=Lookup(), sampler=GREEDY, max_new_tokens=new)
            return np.stack([one.ids for one in found])

        bound = products(decoder, rows)
        reference, expected = speed(peer, new * rows, args.runs)
        print(f"batch {rows}: products alone {bound:.0f}, Hugging Face {reference:.0f} tokens/s")
        ways: dict[str, Callable[[], np.ndarray]] = {"eager": ours}
        if args.lookup:
            ways["look-up"] = looked_up
        for name, way in ways.items():
            tell(name, *speed(way, new * rows, args.runs), reference, bound, expected)
        if args.compile:
            compiled = Decoder(decoder.config)
            compiled.load_state_dict(decoder.state_dict())
            compiled.eval().compile(dynamic=True, options={"cpp_wrapper": True})
            start = time.perf_counter()
            generate(compiled, prompts, sampler=GREEDY, max_new_tokens=new)
            print(f"  compiled in {time.perf_counter() - start:.1f} s")

            def fast(prompts: list[np.ndarray] = prompts, compiled: Decoder = compiled) -> np.ndarray:
                found = generate(compiled, prompts, sampler=GREEDY, max_new_tokens=new)
                return np.stack([one.ids for one in found])

            tell("compiled", *speed(fast, new * rows, args.runs), reference, bound, expected)


def tell(name: str, rate: float, made: np.ndarray, reference: float, bound: float, expected: np.ndarray) -> None:
    """One line of the result."""
    same = float((made == expected).mean())
    print(
        f"  {name}: {rate:.0f} tokens/s, {rate / reference:.2f} times Hugging Face, {rate / bound:.0%} of the bound; "
        f"{same:.1%} of the ids are the same"
    )


if __name__ == "__main__":
    main()
