"""Everything seqmodal raises on purpose. The message is for a person; the command line prints it without a traceback.

    SeqmodalError
    ├── BadInput      a file or value from outside that cannot be used
    ├── ConfigError   a setting that is unknown, out of range or meaningless beside another
    ├── NotFitted     a tokenizer that needs `fit` before this call
    ├── Mismatch      parts that do not belong together: weights, vocabulary, tokenizers, stored tokens
    └── RunExists     a run folder that would be overwritten, or is in use
"""

from __future__ import annotations

from os import PathLike


class SeqmodalError(Exception):
    """Base of all errors raised on purpose."""


class BadInput(SeqmodalError):
    """Input that cannot be used: `where` it came from, the `reason`, and a `hint` on what to do next."""

    def __init__(self, where: str | PathLike[str], reason: str, hint: str = "") -> None:
        self.where, self.reason, self.hint = str(where), reason, hint
        super().__init__(f"{self.where}: {reason}" + (f" ({hint})" if hint else ""))

    def __reduce__(self) -> tuple[type[BadInput], tuple[str, str, str]]:  # survives the way back from a worker process
        return type(self), (self.where, self.reason, self.hint)


class ConfigError(SeqmodalError, ValueError):
    """A setting that is unknown, out of range, or meaningless beside another."""


class NotFitted(SeqmodalError):
    """The tokenizer has to be fitted before it can do this."""


class Mismatch(SeqmodalError):
    """Weights, vocabulary, tokenizers or stored tokens that do not belong together."""


class RunExists(SeqmodalError):
    """The run folder exists already, or another process is writing it."""
