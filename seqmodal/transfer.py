"""Going on from another's model: the shape it prescribes, and its weights in a decoder whose vocabulary has grown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import torch

from seqmodal.config import Causal, DecoderConfig, Learned, Objective, Rotary
from seqmodal.decoder import Decoder
from seqmodal.errors import ConfigError
from seqmodal.tokenizers.tally import num_counters
from seqmodal.tokenizers.vocabulary import Vocabulary

FREE = ("vocab_size", "max_seq_len", "window", "memory", "tally", "zero_init", "dropout")
"""Fields in which a decoder may differ from the one it goes on from: no trained matrix has its shape or meaning by
them, or its rows are carried over as far as they go."""


def shape_from(start: DecoderConfig, tokenizers: Sequence[Any]) -> DecoderConfig:
    """The shape that settings are laid over: that of the model which is gone on from, with its `tokenizers`.

    Counters of a tally are left to be chosen where it has those of all its tokenizers: a new tokenizer may bring more.
    """
    return replace(start, tally=None) if start.tally == num_counters(tokenizers) else start


def laid_over(shape: DecoderConfig, wanted: DecoderConfig) -> DecoderConfig:
    """`wanted` as it is where its sizes are given; else `shape` with what of `wanted` is not as by default."""
    if wanted.d_model:
        return wanted
    default = DecoderConfig()
    given = {f.name: getattr(wanted, f.name) for f in fields(DecoderConfig)}
    return replace(shape, **{name: value for name, value in given.items() if value != getattr(default, name)})


def choose_anew(model: DecoderConfig, start: DecoderConfig, objective: Objective, whole: bool) -> DecoderConfig:
    """What of the older shape fits the older task alone is left to be chosen, unless a setting differs from it.

    Documents that are learned whole say themselves how long the context is, where positions have no end; and an
    objective that needs the whole piece keeps no window. A causal one that had none gets none.
    """
    causal, anew = isinstance(objective, Causal), set[str]()
    if whole and not model.position.absolute:
        anew = {"max_seq_len", "window"}
    elif not causal:
        anew = {"window"}
    cleared: dict[str, Any] = {name: 0 for name in anew if getattr(model, name) == getattr(start, name)}
    model = replace(model, **cleared)
    streams = isinstance(model.position, Rotary) and not model.memory and not whole
    return replace(model, window=model.max_seq_len) if causal and streams and not model.window else model


def must_go_on(wanted: DecoderConfig, start: DecoderConfig) -> None:
    """Whether a decoder can go on from the weights of another.

    Raises:
        ConfigError: names the field that does not fit, with both values.
    """
    for field in fields(DecoderConfig):
        ours, theirs = (_meant(config, field.name) for config in (wanted, start))
        if field.name not in FREE and ours != theirs:
            raise ConfigError(
                f"model.{field.name} is {ours}, and the model that is gone on from has {theirs}; leave the setting out"
            )
    if isinstance(start.position, Learned) and wanted.max_seq_len > start.max_seq_len:
        raise ConfigError(
            f"model.max_seq_len is {wanted.max_seq_len}, and the model that is gone on from has learned a vector for "
            f"each of {start.max_seq_len} positions and knows no others; that is the most"
        )


def _meant(config: DecoderConfig, name: str) -> Any:
    """The value of a field, or what a 0 stands for."""
    return getattr(config, {"num_kv_heads": "kv_heads", "d_ff": "ff_width"}.get(name, name))


@torch.no_grad()
def carry_over(start: Decoder, vocabulary: Vocabulary, decoder: Decoder, grown: Vocabulary) -> None:
    """Write the weights of `start` into `decoder`, block by block where they are rows of the vocabulary.

    What the older one lacks keeps its random start: rows of new blocks, counters of new tokenizers.

    Args:
        start, vocabulary: what is gone on from.
        decoder, grown: of a shape that `must_go_on` lets through, and a vocabulary with all the blocks of the other.
    """
    weights = start.state_dict()
    for name, new in decoder.state_dict().items():
        if name == "tally.effects" or name not in weights:  # a table of the tokenizers; the counters of a first tally
            continue
        old = weights[name]
        if name in ("embedding.weight", "head.weight") or name.startswith("value_embeddings."):
            for block in vocabulary.blocks:
                first = grown.block(block.name).start
                new[first : first + block.size] = old[block.start : block.start + block.size]
        elif name in ("position.weight", "tally.weight"):
            rows = min(len(new), len(old))
            new[:rows] = old[:rows]
        else:
            new.copy_(old)
