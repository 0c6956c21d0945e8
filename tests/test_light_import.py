"""`import seqmodal` and `seqmodal --help` are quick because they leave the heavy libraries alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

NOT_FOR_IMPORT = {"lightning", "pytorch_lightning", "matplotlib", "torchaudio", "PIL"}
NOT_FOR_HELP = NOT_FOR_IMPORT | {"torch", "symusic", "pretty_midi", "soundfile", "music21", "scipy", "tiktoken"}


def loaded_by(code: str) -> set[str]:
    """The top-level modules that `code` leaves loaded."""
    done = subprocess.run(
        [sys.executable, "-c", code + "\nimport json, sys; sys.stderr.write('\\n' + json.dumps(sorted(sys.modules)))"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in json.loads(done.stderr.rsplit("\n", 1)[-1])}


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
    ("code", "forbidden"),
    [
        ("import seqmodal", NOT_FOR_IMPORT | {"torch"}),
        ("import seqmodal.tokenizers.registry", NOT_FOR_IMPORT | {"torch", "symusic", "pretty_midi"}),
        ("import seqmodal.model", NOT_FOR_IMPORT),
        (HELP.format(arguments='"--help"'), NOT_FOR_HELP | {"tyro", "numpy"}),
        (HELP.format(arguments='"generate", "--help"'), NOT_FOR_HELP | {"numpy"}),
    ],
    ids=["import", "registry", "model", "help", "generate-help"],
)
def test_light(code, forbidden):
    loaded = loaded_by(code)
    assert "seqmodal" in loaded
    assert not loaded & forbidden
