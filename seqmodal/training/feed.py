"""The batches that a run learns from, and those that it is validated by."""

from __future__ import annotations

from typing import Any

from seqmodal.config import RecipeConfig
from seqmodal.data.corpus import Prepared
from seqmodal.data.loader import Batch, Batches, windows
from seqmodal.data.stream import StreamBatches, segments
from seqmodal.data.whole import WholeBatches
from seqmodal.errors import ConfigError
from seqmodal.tokenizers.protocol import Located
from seqmodal.training.lit import TrainingBatches
from seqmodal.training.scale import validation_share


def learned_whole(prepared: Prepared, config: RecipeConfig) -> bool:
    """Whether documents are learned whole: tasks, and what ends by itself, as pictures do. A memory reads on anyway."""
    used = prepared.stores["train"].used()
    located = all(isinstance(tokenizer, Located) for tokenizer in prepared.tokenizers if tokenizer.name in used)
    return not config.model.memory and (located or prepared.stores["train"].tasks)


def targets_a_step(prepared: Prepared, batches: TrainingBatches) -> int:
    """Of a training step, on average."""
    return round(int((prepared.stores["train"].lengths - 1).sum()) / batches.per_epoch)


def training_batches(prepared: Prepared, config: RecipeConfig) -> TrainingBatches:
    train, training, context = prepared.stores["train"], config.training, config.model.max_seq_len
    augment = {t.name: t.augment for t in prepared.tokenizers if training.augment and hasattr(t, "augment")}
    if config.model.memory:
        return StreamBatches(
            train, context=context, batch_size=training.batch_size, seed=training.seed, augment=augment
        )
    how: dict[str, Any] = {
        "context": context, "batch_size": training.batch_size, "seed": training.seed, "augment": augment,
        "objective": config.objective,
    }  # fmt: skip
    if learned_whole(prepared, config):
        return WholeBatches(train, condition_dropout=training.condition_dropout, **how)
    return Batches(train, **how)


def must_have_condition(prepared: Prepared, config: RecipeConfig) -> None:
    """Raises ConfigError for condition dropout where nothing is given, or no null can stand in its place."""
    given = any(shape.given for shape in prepared.stores["train"].shapes().values())
    if not config.training.condition_dropout or (
        given and learned_whole(prepared, config) and prepared.vocabulary.null
    ):
        return
    why = "nothing is given in these documents" if not given else "a memory or a vocabulary without a null cannot"
    raise ConfigError(f"condition_dropout {config.training.condition_dropout} means nothing here: {why}; set it to 0")


def validation_batches(prepared: Prepared, config: RecipeConfig) -> list[Batch]:
    """Validation batches, evenly taken, so that all evaluations together stay cheap; for a decoder with memory,
    documents in segments that follow one another."""
    store = prepared.stores.get("valid")
    if store is None or not config.training.evaluations:
        return []
    training, context = config.training, config.model.max_seq_len
    seen = training.steps * targets_a_step(prepared, training_batches(prepared, config))
    share = validation_share(seen, store.num_tokens, training.evaluations)
    if config.model.memory:
        return list(segments(store, context, training.batch_size, share))
    return list(windows(store, context, training.batch_size, share, config.objective))
