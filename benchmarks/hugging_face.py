"""The peer of several benchmarks. `transformers` imports torchaudio where it is installed, and its wheel does not load
beside a CPU build of torch; hence it is not to be seen here."""

from __future__ import annotations

import sys

sys.modules["torchaudio"] = None  # type: ignore[assignment]
from transformers import GPT2Config, GPT2LMHeadModel  # noqa: E402

__all__ = ["GPT2Config", "GPT2LMHeadModel"]
