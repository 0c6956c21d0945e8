"""The peer of several benchmarks. `transformers` imports torchaudio where it is installed, and its wheel does not load
beside a CPU build of torch; hence it is imported first, in the way that works beside any."""

from __future__ import annotations

from tokenizers_ext._torchaudio import import_torchaudio

import_torchaudio()
from transformers import GPT2Config, GPT2LMHeadModel  # noqa: E402

__all__ = ["GPT2Config", "GPT2LMHeadModel"]
