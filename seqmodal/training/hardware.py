"""What this machine does fastest, measured and not guessed."""

from __future__ import annotations

import ctypes
import os
import time
from functools import cache
from typing import Any, Literal

import torch

KERNELS = "128"
"""Kernels that oneDNN, and PyTorch before it, keep. Each shape of a batch has its own, with memory to work in; with
1,024 each, which is usual, training on pairs whose batches differ in length took 5 GB after two hours."""
for _cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    os.environ.setdefault(_cache, KERNELS)  # read at the first product


def device() -> torch.device:
    """The accelerator when there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def cores() -> int:
    """The cores this process may use; fewer where OMP_NUM_THREADS says so, since threads beyond wait for each other."""
    free = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(free, int(asked)) if asked.isdecimal() and int(asked) else free


def keep_freed_memory() -> None:
    """Have the C library keep what is freed, where it is glibc.

    Else it gives every large block back to the system and asks for it anew, and that each step's blocks are emptied
    page by page before they are written takes about a tenth of a step on a CPU.
    """
    mallopt = _of_glibc("mallopt")
    if mallopt is not None:
        mallopt(-4, 0)  # M_MMAP_MAX: no blocks of their own
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD, in bytes: how much may lie free


def release_freed_memory() -> None:
    """Give back what lies free, once in a while: where batches differ in length, blocks fit ever fewer of the gaps, and
    the process would grow."""
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _of_glibc(name: str) -> Any:
    """A function of the C library; None where it has none of that name."""
    return getattr(ctypes.CDLL(None), name, None) if os.name == "posix" else None


def _seconds_for_products(dtype: torch.dtype, where: torch.device, hopeless: float = float("inf")) -> float:
    """The quickest of a few products of two (768, 768) matrices, the first not counted; no more of them once one has
    taken `hopeless` seconds."""
    a, b = (torch.randn(768, 768, device=where, dtype=dtype) for _ in range(2))
    times: list[float] = []
    while len(times) < 6 and max(times, default=0.0) < hopeless:
        start = time.perf_counter()
        (a @ b).sum().item()
        times.append(time.perf_counter() - start)
    return min(times[1:] or times)


@cache
def product_format() -> Literal["float32", "bfloat16"]:
    """The format in which matrices multiply fastest here: bfloat16 where the machine has units for it, else float32.

    Processors with such units are about twice as fast in bfloat16, those without are slower; a name does not tell.
    """
    where = device()
    if where.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    plain = _seconds_for_products(torch.float32, where)
    short = _seconds_for_products(torch.bfloat16, where, hopeless=50 * plain)  # without such units, a hundred times it
    return "bfloat16" if short < 0.8 * plain else "float32"


def nominal_speed() -> float:
    """About how many floating-point operations a second training reaches here. Not measured, so that the same command
    chooses the same model again."""
    if device().type == "cuda":
        return 1e14
    return torch.get_num_threads() * (1e11 if product_format() == "bfloat16" else 5e10)
