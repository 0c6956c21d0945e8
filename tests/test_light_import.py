"""`import seqmodal` and `seqmodal --help` are quick because they leave the heavy libraries alone."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys

import pytest

NOT_FOR_IMPORT = {"lightning", "pytorch_lightning", "matplotlib", "torchaudio", "PIL"}
NOT_FOR_HELP = NOT_FOR_IMPORT | {"torch", "symusic", "pretty_midi", "soundfile", "music21", "scipy", "tiktoken"}


def run(code: str) -> tuple[set[str], float]:
    """The top-level modules that `code` leaves loaded, and the processor seconds of the whole process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", code + "\nimport json, sys; sys.stderr.write('\\n' + json.dumps(sorted(sys.modules)))"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stderr.rsplit("\n", 1)[-1])
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {name.split(".")[0] for name in loaded}, seconds


HELP = """
import sys
from seqmodal.cli import main
sys.argv = ["seqmodal", {arguments}]
try:
    code = main()
except SystemExit as stop:
    code = stop.code
assert code in (0, None), code
"""


@pytest.mark.parametrize(
    ("code", "forbidden", "limit"),
    [
        ("import seqmodal", NOT_FOR_IMPORT | {"torch"}, 0.3),
        ("import seqmodal.tokenizers.registry", NOT_FOR_IMPORT | {"torch", "symusic", "pretty_midi"}, 0.6),
        ("import seqmodal.model", NOT_FOR_IMPORT, None),
        (HELP.format(arguments='"--help"'), NOT_FOR_HELP, 0.5),
        (HELP.format(arguments='"generate", "--help"'), NOT_FOR_HELP, 0.5),
    ],
    ids=["import", "registry", "model", "help", "generate-help"],
)
def test_light(code, forbidden, limit):
    loaded, seconds = run(code)
    assert "seqmodal" in loaded
    assert not loaded & forbidden
    if limit is not None and seconds > limit:
        seconds = min(seconds, *(run(code)[1] for _ in range(3)))  # a busy machine: the best of four counts
        assert seconds <= limit
