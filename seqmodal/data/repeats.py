"""Repeats and endings of a tune in ABC notation, written out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


def played(items: Sequence[T | str]) -> Iterator[T]:
    """Bars in the order in which repeats and endings have them. A double bar line behind the last ending begins a part
    of its own, which may be repeated without a sign at its beginning."""
    at = start = 0
    time, most, repeated, last = 1, 2, set[int](), False
    while at < len(items):
        item = items[at]
        at += 1
        if not isinstance(item, str):
            yield item
        elif item == "(":
            start, time, most = (at, 1, 2) if at != start else (start, time, most)
            last = False
        elif item == "|":
            start, time, most, last = (at, 1, 2, False) if last else (start, time, most, last)
        elif item == ")":
            if not last and ((time < most) if most > 2 else (at not in repeated)):
                repeated.add(at)
                at, time = start, time + 1 if most > 2 else 2
            else:
                start, time, most, last = at, 1, 2, False
        elif time == 1:
            most = _times(items, at - 1)
        elif (time not in _numbers(item)) if most > 2 else (item == "1"):  # of another time: on behind its repeat
            at = next((place + 1 for place in range(at, len(items)) if items[place] == ")"), at)
            start = start if most > 2 else at
            last = last or most == 2
        elif time == most:
            last = True


def _times(items: Sequence[Any], at: int) -> int:
    """How often a part is played whose first ending begins at `at`: as often as its endings say together, or twice."""
    numbers: list[int] = []
    while len(numbers) < 10 and isinstance(item := items[at] if at < len(items) else "", str) and item[:1].isdigit():
        numbers += _numbers(item)
        marks = (place for place in range(at + 1, len(items)) if isinstance(items[place], str) and items[place] != "|")
        at = next(marks, len(items))
        at += items[at : at + 1] == [")"]
    count = len(numbers)
    return count if count > 2 and numbers[0] == 1 and sorted(numbers) == list(range(1, count + 1)) else 2


def _numbers(ending: str) -> set[int]:
    """The times of 1, of 1,3 and of 1-3."""
    parts = [part.split("-") for part in ending.split(",")]
    return {number for part in parts for number in range(int(part[0]), int(part[-1]) + 1)}
