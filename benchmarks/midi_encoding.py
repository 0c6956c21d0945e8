"""MIDI file to ids: this project's "midi" against MidiTok's MIDILike, both on symusic, one process, one run.

    python benchmarks/midi_encoding.py [--data FOLDER] [--repeats 3] [--json]

MIDILike has its own default configuration (MidiTok 3: at most 8 positions a beat, 32 velocities, no tempos, so that it
decodes at 120 a minute); its faithfulness is shown with tempos kept too (`use_tempos`). Time is processor time from the
path to the ids, the best of the repeats, the two taking turns. Faithfulness: every onset as symusic reads it against
its image after encoding and decoding, matched by pitch and order (by nearest onset where notes are missing). Notes
at one step and pitch are one note, for both. Drift: the last tenth of a piece against its first, the worst file.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import symusic

from tokenizers_ext._midi_smf import seconds_of
from tokenizers_ext.midi import MidiTokenizer

Onsets = tuple[np.ndarray, np.ndarray]  # seconds, pitches


def onsets_of(score: symusic.Score) -> Onsets:
    """Distinct (onset in seconds, pitch) of all notes, drums left out, by the whole tempo map in double precision."""
    parts = [track.notes.numpy() for track in score.tracks if not track.is_drum and len(track.notes)]
    ticks = np.concatenate([part["time"].astype(np.int64) for part in parts])
    pitch = np.concatenate([part["pitch"].astype(np.int64) for part in parts])
    both = np.unique(np.stack((pitch, ticks)), axis=1)
    tempos = score.tempos.numpy()
    tempo_map = list(zip(tempos["time"].tolist(), tempos["mspq"].tolist(), strict=True))
    return seconds_of(both[1], score.ticks_per_quarter, tempo_map, Counter()), both[0]


def errors(true: Onsets, made: Onsets) -> np.ndarray:
    """For each true note, in order of time, its onset's error in seconds."""
    found = []
    for pitch in np.unique(true[1]):
        old, new = np.sort(true[0][true[1] == pitch]), np.sort(made[0][made[1] == pitch])
        if len(new) == 0:
            continue
        image = new if len(old) == len(new) else new[np.abs(old[:, None] - new[None]).argmin(axis=1)]
        found.append(np.stack((old, image - old)))
    if not found:
        return np.zeros(0)
    table = np.concatenate(found, axis=1)
    return table[1, np.argsort(table[0])]


def drift_of(error: np.ndarray) -> float:
    """How much later (or earlier) the last tenth of a piece is than its first tenth, in seconds, by their medians."""
    tenth = max(1, len(error) // 10)
    return abs(float(np.median(error[-tenth:]) - np.median(error[:tenth]))) if len(error) else 0.0


def quality(paths: list[Path], back: Callable[[Path], Onsets]) -> dict[str, Any]:
    """Errors in milliseconds over all files, and how many notes are still there."""
    worst, all_errors, drift, true_notes, kept, same = 0.0, [], 0.0, 0, 0, 0
    for path in paths:
        true, made = onsets_of(symusic.Score(path)), back(path)
        error = errors(true, made)
        steps = np.unique(np.stack((true[1], (true[0] * 100 + 0.5).astype(np.int64))), axis=1).shape[1]
        true_notes, kept, same = true_notes + steps, kept + len(made[0]), same + (steps == len(made[0]))
        worst = max(worst, float(np.abs(error).max(initial=0)))
        drift = max(drift, drift_of(error))
        all_errors.append(np.abs(error))
    error = np.concatenate(all_errors)
    return {
        "onset_error_ms": {"median": 1e3 * float(np.median(error)), "max": 1e3 * worst},
        "drift_ms": 1e3 * drift,
        "notes": true_notes,
        "notes_kept": kept,
        "files_with_all_notes": same,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data" / "asap" / "train")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    paths = sorted(options.data.rglob("*.mid"))
    if not paths:
        sys.exit(f"{options.data}: no .mid file there; give a folder with --data")
    try:
        from miditok import MIDILike, TokenizerConfig
    except ImportError:
        sys.exit("MidiTok is missing: pip install 'seqmodal[benchmarks]'")

    ours, peer = MidiTokenizer(), MIDILike()
    peer_tempos = MIDILike(TokenizerConfig(use_tempos=True))

    def ours_back(path: Path) -> Onsets:
        notes = ours.decode_notes(ours.encode(path))
        return notes.onset, notes.pitch

    def peer_back(tokenizer: Any) -> Callable[[Path], Onsets]:
        return lambda path: onsets_of(tokenizer.decode(tokenizer.encode(path)))

    def clock(encode: Callable[[Path], Any]) -> float:
        start = time.process_time()
        for path in paths:
            encode(path)
        return time.process_time() - start

    clock(ours.encode)
    times = [(clock(ours.encode), clock(peer.encode)) for _ in range(options.repeats)]
    seconds, peer_seconds = (min(column) for column in zip(*times, strict=True))
    tokens = sum(len(ours.encode(path)) for path in paths)
    result = {
        "files": len(paths),
        "tokens": tokens,
        "ours": {"ms_per_file": 1e3 * seconds / len(paths), **quality(paths, ours_back)},
        "miditok": {"ms_per_file": 1e3 * peer_seconds / len(paths), **quality(paths, peer_back(peer))},
        "miditok_use_tempos": quality(paths, peer_back(peer_tempos)),
        "times_faster": peer_seconds / seconds,
    }
    if options.json:
        print(json.dumps(result, indent=1))
        return
    print(f"{len(paths)} files, {tokens:,} ids by ours, best of {options.repeats}")
    for name in ("ours", "miditok", "miditok_use_tempos"):
        row = result[name]
        speed = f"{row['ms_per_file']:8.3f} ms a file" if "ms_per_file" in row else " " * 18
        error = row["onset_error_ms"]
        print(
            f"{name:20s}{speed}   onset error median {error['median']:8.2f} ms, max {error['max']:9.2f} ms   drift "
            f"{row['drift_ms']:9.2f} ms   notes kept {row['notes_kept']:,} of {row['notes']:,} "
            f"({row['files_with_all_notes']} files whole)"
        )
    print(f"ours is {result['times_faster']:.1f} times faster")


if __name__ == "__main__":
    main()
