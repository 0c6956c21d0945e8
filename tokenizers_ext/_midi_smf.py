"""A Standard MIDI File read event by event, and forgivingly: for the files that other parsers refuse.

Whole events of a truncated file are kept, data bytes above 127 are clipped, statuses that do not exist are passed over,
chunks that nobody knows are skipped. Each mend is said in words. The work is linear in the file's size.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

import numpy as np

from seqmodal.errors import BadInput

DRUM_CHANNEL = 9
MAX_HANGING_SECONDS = 5.0  # how long a note without a note-off may last
DATA_BYTES = {0x8: 2, 0x9: 2, 0xA: 2, 0xB: 2, 0xC: 1, 0xD: 1, 0xE: 2}
WITHOUT_END = "note without an end left out"
SYSTEM_DATA_BYTES = {0xF1: 1, 0xF2: 2, 0xF3: 1}


@dataclass
class Events:
    """What the tracks hold, times in ticks."""

    division: int
    notes: list[tuple[int, int, int, int, int, int]] = field(
        default_factory=list
    )  # onset end pitch velocity program channel
    pedals: list[tuple[int, int, int]] = field(default_factory=list)  # (time, value, channel)
    tempos: list[tuple[int, int]] = field(default_factory=list)  # (time, microseconds a quarter note)
    mended: Counter[str] = field(default_factory=Counter)
    damage: int = 0  # how often a byte was not what the standard wants in its place
    hanging: list[int] = field(default_factory=list)  # indices into notes: those that the end of a track cut off
    last: int = 0


def unwrap(data: bytes, mended: Counter[str] | None = None) -> bytes:
    """The MIDI file inside a RIFF container, or `data` from its MThd on, or `data` where there is none."""
    start = data.find(b"MThd")
    if start > 0 and data[:4] != b"RIFF" and mended is not None:
        mended["bytes before the header skipped"] += 1
    return data[start:] if start > 0 else data


def healthy_tracks(data: bytes) -> list[tuple[int, int]]:
    """(start, end) of each MTrk chunk of a file whose chunks are all where its header and lengths say; else empty."""
    if data[:4] != b"MThd" or len(data) < 14:
        return []
    at, spans = 8 + int.from_bytes(data[4:8], "big"), []
    while at + 8 <= len(data):
        end = at + 8 + int.from_bytes(data[at + 4 : at + 8], "big")
        if data[at : at + 4] == b"MTrk":
            spans.append((at + 8, end))
        elif not _is_chunk(data, at):
            return []
        at = end
    return spans if at == len(data) and len(spans) == int.from_bytes(data[10:12], "big") else []


def tracks(data: bytes, mended: Counter[str]) -> tuple[int, list[bytes]]:
    """(division, the bytes of each MTrk). A chunk whose stated length leads nowhere is searched for its real end."""
    data = unwrap(data, mended)
    at, division = 0, 96
    if data[:4] == b"MThd" and len(data) >= 14:
        length = int.from_bytes(data[4:8], "big")
        division = int.from_bytes(data[12:14], "big")
        if int.from_bytes(data[8:10], "big") == 2:
            mended["format 2: its sequences are laid over each other"] += 1
        at = 8 + length if length >= 6 and data[8 + length : 12 + length] == b"MTrk" else max(data.find(b"MTrk"), 14)
    else:
        at = data.find(b"MTrk")
        mended["no header: 96 ticks a quarter note assumed"] += 1
    found: list[bytes] = []
    while 0 <= at <= len(data) - 8:
        name, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "big")
        end = at + 8 + length
        if name == b"MTrk":
            following = data.find(b"MTrk", at + 8)
            if end > len(data) or (end < len(data) and following >= 0 and data[end : end + 4] != b"MTrk"):
                real = following if following >= 0 else len(data)
                if not _is_chunk(data, end):
                    mended["track length wrong" if end <= len(data) else "truncated, or track length wrong"] += 1
                    end = real
            elif end < len(data) and following < 0 and not _is_chunk(data, end) and b"\xff\x2f" in data[end:]:
                mended["track length wrong"] += 1
                end = len(data)
            found.append(data[at + 8 : end])
        elif end > len(data) or not _is_chunk(data, end) and end != len(data):
            end = data.find(b"MTrk", at + 4)
            mended["bytes between the chunks skipped"] += 1
            if end < 0:
                break
        at = end
    return division, found


def _is_chunk(data: bytes, at: int) -> bool:
    name = data[at : at + 4]
    return len(name) == 4 and all(32 <= byte < 127 for byte in name)


def parse(data: bytes) -> Events:
    """All events of a file's bytes. Raises BadInput (where = "MIDI") when it holds no track at all."""
    mended: Counter[str] = Counter()
    division, chunks = tracks(data, mended)
    if not chunks:
        raise BadInput("MIDI", "it holds no MIDI track" if b"MThd" in data[:64] else "it is not a MIDI file")
    events = Events(division, mended=mended)
    for chunk in chunks:
        _parse_track(chunk, events)
    return events


def _parse_track(data: bytes, out: Events) -> None:
    """Reads one track into `out`; stops, with what it has, where an event is cut off."""
    at, size, time, status, whole = 0, len(data), 0, 0, False
    programs = [0] * 16
    sounding: dict[int, deque[tuple[int, int, int]]] = {}  # channel * 128 + pitch: (onset, velocity, program)
    mended = out.mended
    while at < size:
        delta, count = 0, 0
        while True:  # the delta time, at most four bytes
            byte = data[at]
            at, count = at + 1, count + 1
            delta = delta << 7 | byte & 127
            if byte < 128 or at == size or count == 4:
                break
        if byte >= 128 and count == 4:
            mended["delta time longer than four bytes"] += 1
            out.damage += 1
        if at == size:
            mended["cut off in the middle of an event"] += 1
            break
        time += delta
        byte = data[at]
        if byte < 128:  # running status
            if not status:
                mended["data bytes without a status"] += 1
                out.damage += 1
                while at < size and data[at] < 128:
                    at += 1
                at -= 1  # the last of them is the next event's time
                continue
        else:
            at += 1
            if byte == 0xFF:
                if at >= size:
                    mended["cut off in the middle of an event"] += 1
                    break
                kind = data[at]
                length, at = _length(data, at + 1)
                if at + length > size:
                    mended["cut off in the middle of an event"] += 1
                    break
                if kind == 0x51 and length >= 3:
                    out.tempos.append((time, int.from_bytes(data[at : at + 3], "big")))
                at += length
                if kind == 0x2F:
                    whole = True
                    break
                continue
            if byte in (0xF0, 0xF7):
                length, at = _length(data, at)
                if at + length > size:
                    mended["system exclusive message cut off"] += 1
                    break
                at += length
                continue
            if byte >= 0xF0:
                mended[f"status {byte:02x} passed over"] += 1
                out.damage += 1
                at += SYSTEM_DATA_BYTES.get(byte, 0)
                continue
            status = byte
        kind, channel = status >> 4, status & 15
        need = DATA_BYTES[kind]
        if at + need > size:
            mended["cut off in the middle of an event"] += 1
            break
        first, second = data[at], data[at + 1] if need == 2 else 0
        at += need
        if first > 127 or second > 127:
            mended["data byte above 127 clipped"] += 1
            first, second = min(first, 127), min(second, 127)
        if kind == 0x9 and second:
            sounding.setdefault(channel << 7 | first, deque()).append((time, second, programs[channel]))
        elif kind == 0x8 or kind == 0x9:
            queue = sounding.get(channel << 7 | first)
            if queue:
                onset, velocity, program = queue.popleft()
                out.notes.append((onset, time, first, velocity, program, channel))
        elif kind == 0xC:
            programs[channel] = first
        elif kind == 0xB and first == 64:
            out.pedals.append((time, second, channel))
    out.last = max(out.last, time)
    for key, queue in sounding.items():
        for onset, velocity, program in queue:
            if whole:
                mended[WITHOUT_END] += 1
            else:
                out.hanging.append(len(out.notes))
                out.notes.append((onset, time, key & 127, velocity, program, key >> 7))


def _length(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for _ in range(4):
        if at >= len(data):
            return 1, at  # past the end: the caller sees an event cut off
        byte = data[at]
        at += 1
        value = value << 7 | byte & 127
        if byte < 128:
            break
    return value, at


def seconds_of(ticks: np.ndarray, division: int, tempos: list[tuple[int, int]], mended: Counter[str]) -> np.ndarray:
    """Seconds (float64) of ticks, by the whole tempo map or an SMPTE division's frame rate. Raises BadInput."""
    if division >= 0x8000:
        frames, resolution = 256 - (division >> 8), division & 255
        if not resolution or frames not in (24, 25, 29, 30):
            raise BadInput("MIDI", f"its time division {division:#06x} means nothing")
        return ticks / ((30000 / 1001 if frames == 29 else frames) * resolution)
    if division == 0:
        raise BadInput("MIDI", "its time division is 0, so its times mean nothing")
    kept = [(time, tempo) for time, tempo in sorted(tempos, key=lambda pair: pair[0]) if tempo > 0]
    if len(kept) < len(tempos):
        mended["tempo 0 ignored"] += len(tempos) - len(kept)
    if all(time <= 0 for time, _ in kept):
        return ticks * ((kept[-1][1] if kept else 500_000) / (1e6 * division))
    start = np.array([0] + [time for time, _ in kept], np.int64)
    tempo = np.array([500_000] + [tempo for _, tempo in kept], np.float64) / (1e6 * division)
    reached = np.concatenate(([0.0], np.cumsum(np.diff(start) * tempo[:-1])))
    index = np.searchsorted(start, ticks, side="right") - 1
    return reached[index] + (ticks - start[index]) * tempo[index]
