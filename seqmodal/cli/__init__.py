"""The command line: `seqmodal VERB OBJECT [--flags]`. A verb's module is imported when the verb is called."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from seqmodal.errors import ConfigError, SeqmodalError

HELP = """\
seqmodal: one decoder, any modality

  seqmodal train RECIPE      learn from your files and leave a run folder
  seqmodal generate RUN      make something new with a run, or go on from a prompt
  seqmodal translate RUN     answer standard input line by line: translations, or what else was learned
  seqmodal summarize RUN     a summary of each file, or of standard input
  seqmodal transcribe RUN    a recording as a MIDI file
  seqmodal convert RUN       tunes in ABC notation as MIDI files, and MIDI files in ABC notation
  seqmodal next RUN          the likeliest next tokens of a text, to pick from
  seqmodal evaluate RUN      how well a run predicts, and how its samples compare with the data
  seqmodal prepare RECIPE    read and tokenize the files now, to train later
  seqmodal tokenizers        list the tokenizers there are; `tokenizers check NAME` tests one
  seqmodal demo              train on Bach's chorales for a few minutes and listen

  seqmodal VERB --help       the flags of a verb; `train RECIPE --help` those of a recipe

recipes: music, language, translation, summarization, images, sounds, digits (word, picture, speech from one another),
  transcription, abc, files (of any kind, by any tokenizer); or a file of your own, ./mine.py

examples
  seqmodal train music --data ~/midi --minutes 20 --out runs/music
  seqmodal generate runs/music --seconds 60 --prompt primer.mid --out song.mid
  seqmodal train language --data book.txt --minutes 5 --out runs/book
  seqmodal generate runs/book --prompt "The ship"

exit codes: 0 done, 1 it could not be done (the message says why), 2 a wrong word, flag or setting, 130/143 stopped
"""
VERBS = {
    "train": "training.train",
    "generate": "generating.generate",
    "translate": "translating.translate",
    "summarize": "summarizing.summarize",
    "transcribe": "transcribing.transcribe",
    "convert": "converting.convert",
    "next": "generating.next_tokens",
    "evaluate": "evaluating.evaluate",
    "prepare": "training.prepare",
    "tokenizers": "plugins.tokenizers",
    "demo": "training.demo",
}
"""The module and function of each verb."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if given[0] == "--version":
        from seqmodal import __version__

        print(__version__)
        return 0
    try:
        if given[0] not in VERBS:
            raise ConfigError(f"no verb is called {given[0]!r}; there are: {', '.join(VERBS)}. See seqmodal --help")
        module, function = VERBS[given[0]].split(".")
        getattr(import_module(f"seqmodal.cli.{module}"), function)(given[1:])
        sys.stdout.flush()
        return 0
    except BrokenPipeError:  # whoever reads the output has had enough, such as `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (SeqmodalError, OSError) as error:  # such as a full disk, or a folder that may not be written
        if os.environ.get("SEQMODAL_DEBUG"):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1  # tyro ends with 2 as well
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
