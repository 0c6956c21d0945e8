"""Repeats and endings of a tune in ABC notation, written out."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


def played(items: Sequence[T | str]) -> Iterator[T]:
    """Bars in the order in which repeats and endings have them.

    A repeat that nothing begins goes back to the end of the one before, or to the beginning. The last ending is over at
    a double bar line; without one, a repeat or an ending further on begins behind as many bars as the first ending has.
    """
    bars = [place for place, item in enumerate(items) if not isinstance(item, str)]
    ends = [place for place, item in enumerate(items) if item == ")"]
    at = start = part = size = 0
    time, most, repeated, last = 1, 2, set[int](), False
    while at < len(items):
        item = items[at]
        at += 1
        if not isinstance(item, str):
            yield item
            continue
        if last and (item == "|" or (item != "(" and part < at - 1)):
            start, time, most, last = at if item == "|" else part, 1, 2, False
        if item == "(":
            start, time, most = (at, 1, 2) if at != start else (start, time, most)
            last = False
        elif item == ")":
            if not last and ((time < most) if most > 2 else (at not in repeated)):
                repeated.add(at)
                at, time = start, time + 1 if most > 2 else 2
            else:
                start, time, most, last = at, 1, 2, False
        elif item == "|":
            continue
        elif time == 1:
            most = _times(items, at - 1)
            size = bisect_left(bars, _place(ends, at, 0, len(items))) - bisect_left(bars, at)
        elif (time not in _numbers(item)) if most > 2 else (item == "1"):  # of another time: on behind its repeat
            at = min(len(items), _place(ends, at, 0, len(items)) + 1)
            if most == 2:
                start, last, part = at, True, _place(bars, at, size, len(items))
        elif time == most:
            last, part = True, _place(bars, at, size, len(items))


def _place(places: Sequence[int], at: int, number: int, otherwise: int) -> int:
    """That number of the places from `at` on, counted from 0; `otherwise` where there are not so many."""
    found = bisect_left(places, at) + number
    return places[found] if found < len(places) else otherwise


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
