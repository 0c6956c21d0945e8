"""The model: a decoder with its vocabulary and tokenizers, that makes items."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from seqmodal.config import Objective
from seqmodal.decoder import Decoder
from seqmodal.errors import ConfigError, Mismatch
from seqmodal.generation.constraint import BlockConstraint
from seqmodal.generation.draft import DraftModel, Lookup
from seqmodal.generation.probability import Sampler
from seqmodal.generation.rows import Continuation, ids_of, row_generators
from seqmodal.generation.strategy import Strategy
from seqmodal.inputs import Inputs
from seqmodal.model.each import sample_each
from seqmodal.model.filling import fill
from seqmodal.model.made import Candidate, Generated, Progress, Report
from seqmodal.model.texts import candidates, text_pieces
from seqmodal.prompt import grammar_after, prompt_ids, prompt_tokenizer, read_prompt, stretch
from seqmodal.sequence import NOTHING, Composed, Document, Segment
from seqmodal.start import Start
from seqmodal.tokenizers.protocol import Showable, Streamable, Tallied
from seqmodal.tokenizers.vocabulary import Vocabulary

ROWS = 8
"""Variations in one batch."""
IDS_PER_SECOND = 400
"""No piece is expected to need more; a bound for a model that does not let time pass."""
LEFT_TO_RIGHT = {kind.kind for kind in get_args(Objective) if kind.left_to_right}
CONTEXTS = 16
"""How far a model goes that is told neither seconds nor ids and does not end by itself."""


@dataclass
class Model:
    """A decoder, the vocabulary it speaks, and the tokenizers of its blocks.

    Attributes:
        decoder: the network.
        vocabulary: blocks in the order of the tokenizers.
        tokenizers: one a block.
        folder: where it was loaded from.
        objective: what it learned to predict, by kind.
        inputs: what is added to the embeddings of several modalities; None: nothing.
        condition_dropout: how often it learned to do without what is given; 0: never, and it cannot be guided.
    """

    decoder: Decoder
    vocabulary: Vocabulary
    tokenizers: Sequence[Any]
    folder: Path | None = None
    objective: str = "causal"
    inputs: Inputs | None = None
    condition_dropout: float = 0.0

    def generate(self, prompt: Any = None, *, variations: int | None = None, **how: Any) -> Any:
        """An item, or a list of `variations` items; the other arguments are those of `sample`."""
        made = self.sample(prompt, variations=1 if variations is None else variations, **how)
        return made[0].item if variations is None else [one.item for one in made]

    def sample(
        self,
        prompt: Any = None,
        *,
        given: Sequence[Segment] = (),
        to: str | None = None,
        seconds: float | None = None,
        prompt_seconds: float | None = None,
        variations: int = 1,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        typical: float | None = None,
        repetition_penalty: float = 1.0,
        beams: int | None = None,
        length_penalty: float | None = None,
        draft: Model | Decoder | Lookup | DraftModel | Literal["lookup"] | None = None,
        guidance: float | None = None,
        seed: int | None = None,
        limits: Mapping[str, float | None] | None = None,
        stop: str | Sequence[str] | None = None,
        max_new_tokens: int | None = None,
        progress: Progress | None = None,
    ) -> list[Generated]:
        """Make something new, or go on from a prompt.

        Args:
            prompt: an item, a file, or the tokenizer's ids; None: from nothing. Where items are text, a str is a file
                if it names one that is there and has a suffix, else the text itself. One of another
                block than `to`, such as a picture of which text is to be made, is given, and not gone on from.
            given: what stands before it, as in the documents that the model learned from: a source, a tag. All of it
                stays in sight.
            to: which block to make; may be left out where there is only one.
            seconds: how long, beyond the prompt, where the tokenizer counts seconds; None: until the model ends it.
            prompt_seconds: use only the first seconds of the prompt.
            variations: how many to make.
            temperature, top_k, top_p, min_p, typical, repetition_penalty: see `Sampler`.
            beams: search for the likeliest instead of drawing; the variations are then the best found, best first.
            length_penalty: of the search, see `beam_search`; None: its default.
            draft: speculate, which changes the speed and not the distribution: a smaller model or decoder over the same
                vocabulary guesses what comes next; "lookup": what followed the same ids before. `DraftModel` and
                `Lookup` set how much is guessed.
            guidance: above 1: more of what is given than the model has it, for one trained with condition dropout (see
                `Guided`); log-probabilities are then of the guided distribution.
            seed: number i of the variations depends on (seed, i) alone; None: a new one, kept in the result.
            limits: in place of what the tokenizer's grammar keeps samples to, by name; None for one: no limit.
            stop: of text: it ends behind the first of these texts that is made; the prompt does not count.
            max_new_tokens: at most so many ids; None: what `seconds` takes, or else 16 contexts; after what is `given`,
                what the context has left, or where positions are not absolute at least half of it.
            progress: called with how much is done and how much there is: seconds, or else ids (with a draft,
                calls of the decoder).

        Raises:
            ConfigError: for a setting out of range, one that the tokenizer knows nothing of, or two without meaning
                together.
            Mismatch: for a draft with another vocabulary.
            BadInput: for a prompt that cannot be read.
        """
        self._check(max_new_tokens)
        if variations < 1:
            raise ConfigError(f"variations is {variations}; it must be at least 1")
        if seconds is not None and not 0 < seconds < float("inf"):
            raise ConfigError(f"seconds is {seconds}; it must be a positive number")
        sampler = Sampler(temperature, top_k, top_p, min_p, typical, repetition_penalty)
        strategy = Strategy(sampler, beams, length_penalty, self._draft(draft), self._guidance(guidance))
        if beams is not None and beams < variations:
            raise ConfigError(f"variations is {variations} and beams {beams}: a search keeps no more than it has beams")
        tokenizer = self.maker(to)
        given, goes_on = self.taken(tokenizer, prompt, given)
        if goes_on is not prompt and prompt_seconds is not None:
            raise ConfigError("prompt_seconds is for a prompt to go on from; this one, of another kind, is given")
        prompt = goes_on
        ids = prompt_ids(tokenizer, prompt, prompt_seconds)
        grammar, start = grammar_after(tokenizer, ids, seconds, limits, stop), self.start(tokenizer, ids, given)
        bound = int(IDS_PER_SECOND * (seconds + 10)) if seconds is not None else self.bound(start)
        bound = max_new_tokens or bound
        if seed is None:
            seed = secrets.randbelow(1 << 31)
        made: list[Generated] = []
        training = self.decoder.training
        self.decoder.eval()
        try:
            batch = ROWS if beams is None else variations
            for first in range(0, variations, batch):
                rows = min(batch, variations - first)
                report = (
                    None
                    if progress is None
                    else Report(
                        progress,
                        first,
                        rows,
                        variations,
                        seconds,
                        bound,
                        grammar.seconds if seconds is not None else 0.0,
                    )
                )
                made += self._rows(tokenizer, ids, start, grammar, strategy, bound, seed, first, rows, report)
        finally:
            self.decoder.train(training)
        return made

    def stream(
        self, prompt: Any = None, *, given: Sequence[Segment] = (), to: str | None = None,
        stop: str | Sequence[str] | None = None, max_new_tokens: int | None = None, seed: int | None = None,
        **sampling: Any,
    ) -> Iterator[str]:  # fmt: skip
        """What follows a prompt, as text while it is made: together what `sample` with the same seed adds to it.

        Args:
            prompt, given, to, stop, max_new_tokens, seed: see `sample`.
            sampling: see `Sampler`.

        Raises:
            ConfigError: as `sample`, and where the tokenizer cannot show ids one by one.
            BadInput: for a prompt that cannot be read.
        """
        self._check(max_new_tokens)
        tokenizer = self._of_text(to)
        given, prompt = self.taken(tokenizer, prompt, given)
        sampler, ids = Sampler(**sampling), prompt_ids(tokenizer, prompt, None)
        start = self.start(tokenizer, ids, given)
        seed = secrets.randbelow(1 << 31) if seed is None else seed
        grammar, bound = grammar_after(tokenizer, ids, stop=stop), max_new_tokens or self.bound(start)
        return text_pieces(self, tokenizer, ids, start, grammar, sampler, bound, seed)

    def sample_each(
        self, given: Sequence[Sequence[Segment]], *, to: str | None = None,
        max_new_tokens: int | Sequence[int] | None = None, beams: int | None = None,
        length_penalty: float | None = None, draft: Any = None, guidance: float | None = None,
        no_repeat: int | None = None, seed: int | None = None, progress: Progress | None = None, **sampling: Any,
    ) -> list[Generated]:  # fmt: skip
        """What follows each of many things given: one item each, in their order, made in batches of like length.

        Args:
            given: of each item what stands before it, as in `sample`.
            max_new_tokens: at most so many ids, of all or of each; None: as in `sample`.
            to, beams, length_penalty, draft, guidance: see `sample`.
            no_repeat: no run of so many ids is made twice in an item; None: any may be.
            seed: item number i depends on (seed, i) and on what is given, and not on the others.
            progress: called with how many are done and how many there are.
            sampling: see `Sampler`.

        Raises:
            ConfigError, Mismatch: as `sample`.
        """
        self._check()
        strategy = Strategy(
            Sampler(**sampling), beams, length_penalty, self._draft(draft), self._guidance(guidance)
        )  # fmt: skip
        seed = secrets.randbelow(1 << 31) if seed is None else seed
        return sample_each(self, self.maker(to), given, strategy, max_new_tokens, seed, progress, no_repeat)

    def next(
        self, prompt: Any = None, count: int = 10, *, given: Sequence[Segment] = (), to: str | None = None
    ) -> list[Candidate]:  # fmt: skip
        """The likeliest ids after a prompt, the end among them, from the likeliest down.

        Args:
            prompt, given, to: see `sample`.
            count: how many, or all where there are no more.

        Raises:
            ConfigError: where the tokenizer's items are no text, or for a count below 1.
            BadInput: for a prompt that cannot be read.
        """
        self._check(None)
        if count < 1:
            raise ConfigError(f"count is {count}; it must be at least 1")
        tokenizer = self._of_text(to)
        given, prompt = self.taken(tokenizer, prompt, given)
        ids = prompt_ids(tokenizer, prompt, None)
        return candidates(self, tokenizer, ids, self.start(tokenizer, ids, given), count)

    def fill(
        self, prompt: Any, start: float, stop: float, *, to: str | None = None, rounds: int = 8, variations: int = 1,
        seed: int | None = None, **sampling: Any,
    ) -> list[Generated]:  # fmt: skip
        """Make a stretch of an item anew, which keeps its number of ids, from all that stands around it.

        For a model that learned the objective masked: all places at once, in a few rounds (`fill_masked`). Only a
        grammar that goes by places holds what comes, so that ids which open and close things (the notes of music)
        cannot be filled.

        Args:
            prompt: an item, a file, or the tokenizer's ids.
            start, stop: of the stretch: seconds where the tokenizer counts seconds, else numbers of ids.
            to: the block; may be left out where there is only one.
            rounds: calls of the decoder.
            variations, seed: as for `sample`.
            sampling: see `Sampler`.

        Returns:
            What was made; `prompt_ids` are those before the stretch.

        Raises:
            ConfigError: for a model that learned another objective, such ids, or a stretch of nothing or of too much.
            BadInput: for a prompt that cannot be read.
        """
        if self.objective != "masked":
            raise ConfigError(
                f"this model learned the objective {self.objective}; filling a stretch takes one that was trained with "
                "`objective: {kind: masked}` in --config"
            )
        if variations < 1:
            raise ConfigError(f"variations is {variations}; it must be at least 1")
        tokenizer = self.maker(to)
        if isinstance(tokenizer, Tallied):
            raise ConfigError(
                "what this makes opens and closes things: guessed all at once, notes would hang. Fill text or a picture"
            )
        seed = secrets.randbelow(1 << 31) if seed is None else seed
        given = prompt_ids(tokenizer, prompt, None)
        first, last = stretch(tokenizer, given, start, stop)
        if last - first > (most := self.decoder.config.max_seq_len // 2):
            raise ConfigError(f"the stretch from {start:g} to {stop:g} has {last - first} ids, more than {most}")
        return fill(self, tokenizer, given, first, last, rounds, variations, seed, Sampler(**sampling))

    def taken(self, tokenizer: Any, prompt: Any, given: Sequence[Segment] = ()) -> tuple[Sequence[Segment], Any]:
        """What is given, and what is gone on from: a prompt of another kind than the tokenizer's is given, and None is
        gone on from.

        Raises:
            ConfigError, BadInput: as `read`.
        """
        source = prompt_tokenizer(self.tokenizers, prompt, tokenizer)
        return (given, prompt) if source is tokenizer else ((*given, self.read(source, prompt)), None)

    def read(self, tokenizer: Any, item: Any) -> Segment:
        """An item or a file as what is given, as the model learned to read it: by features where it has some.

        Raises:
            ConfigError: for a block that nothing was ever learned to be made from, or whose places the recipe laid out.
            BadInput: for what cannot be read.
        """
        shape = self.inputs.shapes.get(tokenizer.name) if self.inputs is not None else None
        if shape is None or not shape.given:
            known = [name for name, one in (self.inputs.shapes if self.inputs else {}).items() if one.given]
            raise ConfigError(
                f"this model never learned to make something from {tokenizer.name}; it can from "
                f"{', '.join(known) or 'nothing'}"
            )
        item = read_prompt(tokenizer, item)
        segment = Segment.of(tokenizer, item, loss=0.0, both_ways=shape.both_ways, features=shape.features > 0)
        if shape.axes and segment.coordinates is None:
            raise ConfigError(
                f"this model was told the places of {tokenizer.name}, which its recipe lays out; use the recipe's own "
                "verb, such as `seqmodal transcribe`"
            )
        return segment

    def tokenizer(self, name: str | None = None) -> Any:
        """The tokenizer of that name; the only one where none is given.

        Raises:
            ConfigError: for a name that is none, or none where there are several.
        """
        names = [tokenizer.name for tokenizer in self.tokenizers]
        if name is None and len(names) == 1:
            return self.tokenizers[0]
        if name not in names:
            raise ConfigError(f"there is no tokenizer {name!r} in this model; it has {', '.join(names)}")
        return self.tokenizers[names.index(name)]

    def maker(self, to: str | None = None) -> Any:
        """The tokenizer of what is to be made; the only one that was learned where none is named.

        Raises:
            ConfigError: for a name that is none or of what was only ever read, or none where there are several.
        """
        shapes = self.inputs.shapes if self.inputs is not None else {}
        made = [one for one in self.tokenizers if one.name not in shapes or shapes[one.name].learned]
        if to is None and len(made) == 1:
            return made[0]
        names = [one.name for one in made]
        if to not in names:
            raise ConfigError(f"to is {to!r}; say what to make: this model makes {', '.join(names)}")
        return made[names.index(to)]

    def show(self, made: Generated, stem: str | Path, to: str | None = None) -> list[Path]:
        """Pictures and sounds of a sample beside `stem`, its prompt set off; none where the tokenizer makes none."""
        tokenizer = self.maker(to)
        if not isinstance(tokenizer, Showable):
            return []
        notes = len(tokenizer.decode_notes(made.prompt_ids)) if hasattr(tokenizer, "decode_notes") else 0
        return tokenizer.show(made.item, Path(stem), prompt_notes=notes)

    def _check(self, max_new_tokens: int | None = None) -> None:
        """Raises ConfigError for a model that does not go from left to right, or a number of ids below 1."""
        if self.objective not in LEFT_TO_RIGHT:
            raise ConfigError(
                f"this model learned the objective {self.objective}, which does not go from left to right; one "
                "that was masked fills a stretch of an item: Model.fill, or generate --prompt FILE --fill START STOP"
            )
        if max_new_tokens is not None and max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens is {max_new_tokens}; it must be at least 1")

    def _of_text(self, to: str | None) -> Any:
        """A tokenizer whose ids can be shown one by one."""
        tokenizer = self.maker(to)
        if not isinstance(tokenizer, Streamable):
            raise ConfigError(f"the tokenizer {tokenizer.name} makes no text, to be shown token by token; use sample")
        return tokenizer

    def start(
        self, tokenizer: Any, ids: np.ndarray, given: Sequence[Segment] = ()
    ) -> np.ndarray | Composed:  # fmt: skip
        """What the decoder reads before it goes on: marks, then the ids of a prompt; behind what is given, a document
        as far as it goes; for a model that learned to do without, behind a null where nothing is given."""
        begin = self.vocabulary.block(tokenizer.name).begin
        if given or self.inputs is not None:
            before = [replace(segment, loss=0.0) for segment in given]
            if not given and self.condition_dropout:
                before = [NOTHING]
            document = Document((*before, Segment(tokenizer.name, ids)))
            return Start.of(document, self.vocabulary, tokenizer, self.inputs)
        marks = [self.vocabulary.bos] if begin is None else [self.vocabulary.bos, begin]
        return np.concatenate([marks, self.vocabulary.to_global(tokenizer.name, ids)])

    def bound(self, start: np.ndarray | Composed) -> int:
        """How many ids are made at most, where nobody says."""
        config, taken = self.decoder.config, len(ids_of(start))
        if not isinstance(start, Composed):
            return CONTEXTS * config.max_seq_len
        left = config.max_seq_len - taken
        if config.position.absolute and left < 1:
            raise ConfigError(
                f"what is given takes {taken} positions, and this model knows {config.max_seq_len}; give less"
            )
        return left if config.position.absolute else max(left, config.max_seq_len // 2)

    def _guidance(self, guidance: float | None) -> float | None:
        """Raises ConfigError where the model knows nothing of it."""
        if guidance is not None and not self.condition_dropout:
            raise ConfigError(
                f"guidance {guidance} means nothing to this model, which never learned to do without what is given; "
                "train it with training.condition_dropout 0.1"
            )
        return guidance

    def _draft(self, draft: Any) -> DraftModel | Lookup | None:
        if isinstance(draft, Model):
            if draft.vocabulary != self.vocabulary:
                raise Mismatch("the draft model has another vocabulary than this one; they must be the same")
            draft = draft.decoder
        if isinstance(draft, Decoder):
            draft = DraftModel(draft)
        if draft == "lookup":
            draft = Lookup()
        if draft is not None and not isinstance(draft, DraftModel | Lookup):
            raise ConfigError(f"draft is {draft!r}; it is a model, a decoder or 'lookup'")
        return draft

    def _rows(
        self,
        tokenizer: Any,
        ids: np.ndarray,
        start: np.ndarray | Composed,
        grammar: Any,
        strategy: Strategy,
        bound: int,
        seed: int,
        first: int,
        rows: int,
        report: Report | None,
    ) -> list[Generated]:
        """One batch of variations."""
        vocabulary = self.vocabulary
        constraints = [
            BlockConstraint(vocabulary, tokenizer.name, None if grammar is None else grammar.copy())
            for _ in range(rows)
        ]
        before = time.perf_counter()
        found = strategy.continuations(
            self.decoder,
            start,
            constraints,
            max_new_tokens=bound,
            stop_ids={constraints[0].end},
            generators=row_generators(seed, rows, first),
            after_step=report,
        )
        taken = time.perf_counter() - before
        return [self.made(tokenizer, ids, one, seed, taken) for one in found]

    def made(self, tokenizer: Any, ids: np.ndarray, one: Continuation, seed: int, taken: float) -> Generated:
        """What a continuation of a prompt `ids` is."""
        new = self.vocabulary.to_local(tokenizer.name, one.ids[:-1] if one.finished else one.ids)
        whole = np.concatenate([ids, new])
        return Generated(whole, ids, tokenizer.decode(whole), one.logprobs, one.finished, seed, taken)
