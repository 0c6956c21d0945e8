"""docs/new-modality.md from top to bottom, in an environment of its own where the page's packages are installed."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "new-modality.md"
BLOCK = re.compile(r"^<!-- (?P<mark>[^\n]*) -->\n```(?P<language>\w+)\n(?P<code>.*?)^```$", re.M | re.S)
MIDITOK = importlib.util.find_spec("miditok") is not None
LAUNCHER = "#!{python}\nimport sys\nfrom {module} import main\nsys.exit(main())\n"
TINY = "--steps 40 --training.batch-size 8 --training.threads 1 --training.evaluations 2 --training.samples 1 "
TINY += "--model.d-model 32 --model.num-layers 1 --model.num-heads 2 "
LEFT_OUT = ("SEQMODAL_CACHE", "PYTHONDONTWRITEBYTECODE")
# The page speaks of a minute, and its package of what it needs; a test has seconds, and no network.
SHORTER = {"--minutes 1 ": TINY}


@dataclass(frozen=True)
class Place:
    """An environment with seqmodal in it, and a folder to work in."""

    work: Path
    bin: Path

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        own = {
            "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}", "HOME": str(self.work), "OMP_NUM_THREADS": "1",
            "XDG_CACHE_HOME": str(self.work / "cache"), "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0",
            "PIP_NO_DEPS": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONPATH": "", "COLUMNS": "200",
            "PYTHONPYCACHEPREFIX": str(self.work / "compiled"),  # compiled once for all of these processes
        }  # fmt: skip
        environment = {k: v for k, v in os.environ.items() if k not in LEFT_OUT} | own
        return subprocess.run(command, cwd=self.work, env=environment, capture_output=True, text=True, timeout=300)

    def do(self, language: str, code: str) -> str:
        """Run a block; its output."""
        done = self.run(*(("bash", "-ec", code) if language == "bash" else (str(self.bin / "python"), "-c", code)))
        assert done.returncode == 0, f"{code}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout


def blocks() -> list[tuple[str, str, str]]:
    """(mark, language, code) of every block of the page."""
    text = PAGE.read_text(encoding="utf-8")
    found = [(match["mark"], match["language"], match["code"]) for match in BLOCK.finditer(text)]
    assert len(found) == text.count("\n```") / 2, "a block says nothing of itself: <!-- run --> or <!-- file: … -->"
    return found


def write_files(place: Place, package: str) -> None:
    for mark, _, code in blocks():
        if mark.startswith(f"file: {package}/"):
            path = place.work / mark.removeprefix("file: ")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(code, encoding="utf-8")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """An environment that sees the packages of this one, as if seqmodal had been installed there."""
    base = tmp_path_factory.mktemp("new")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(base / "venv")], check=True)
    own = Place(base / "work", base / "venv" / "bin")
    own.work.mkdir()
    (sites,) = (base / "venv").glob("lib/python*/site-packages")
    # addsitedir, so that what is installed as editable here is seen as well
    seen = [path for path in sys.path if path.endswith("site-packages")]
    (sites / "seen.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in seen))
    for name, module in (("seqmodal", "seqmodal.cli"), ("pip", "pip._internal.cli.main")):
        (own.bin / name).write_text(LAUNCHER.format(python=own.bin / "python", module=module))
        (own.bin / name).chmod(0o755)
    return own


@pytest.fixture(scope="module")
def installed(place: Place) -> str:
    """What the commands of the section "The package" print."""
    write_files(place, "drawings")
    return place.do("bash", next(code for mark, language, code in blocks() if mark == "run"))


@pytest.fixture(scope="module")
def told(place: Place, installed: str) -> str:
    """What all commands of the page print."""
    printed = installed
    for mark, language, code in blocks():
        if mark == "run" and "pip install" not in code:
            for long, short in SHORTER.items():
                code = code.replace(long, short)
            printed += place.do(language, code)
    return printed


def test_the_tokenizer_has_thirty_lines() -> None:
    (code,) = (code for mark, _, code in blocks() if mark.endswith("/drawing.py"))
    lines = [line for line in code.splitlines() if line.strip()]
    assert len(lines) <= 35 and max(map(len, lines)) <= 120


def test_the_package_is_listed_with_its_distribution_and_keeps_the_laws(installed: str) -> None:
    assert "drawing     Drawings of one line, a direction an id.  [drawings-for-seqmodal 1.0]" in installed
    assert "drawing keeps all laws of a tokenizer" in installed


@pytest.mark.slow
def test_the_page_works_from_top_to_bottom(place: Place, told: str) -> None:
    for long in SHORTER:
        assert any(long in code for _, _, code in blocks()), f"the page no longer says {long!r}: change SHORTER"
    given, half, new = (
        (place.work / name).read_text().splitlines() for name in ("rectangles/0.xy", "other_half.xy", "new.xy")
    )
    steps = (len(given) - 1 + 1) // 2
    assert half[: steps + 1] == given[: steps + 1] and len(half) > steps + 1
    assert len(new) > 1
    run = place.work / "runs" / "drawings"
    judged = json.loads((run / "judged.json").read_text())
    assert judged["nats_per_token"] < 0.7 * judged["unigram_nats_per_token"]
    assert (run / "samples" / "step_000040.xy").is_file()
    (row,) = json.loads((run / "model" / "tokenizers.json").read_text())
    assert (row["module"], row["distribution"], row["version"]) == (
        "tokenizers_ext.drawing", "drawings-for-seqmodal", "1.0"
    )  # fmt: skip


CHANGED = """
import re, sys
from pathlib import Path
version, old, new = sys.argv[1:]
project, module = Path("drawings/pyproject.toml"), Path("drawings/tokenizers_ext/drawing.py")
project.write_text(re.sub('version = .*', f'version = "{version}"', project.read_text()))
text = module.read_text()
assert old in text
module.write_text(text.replace(old, new))
"""


LOAD = """
from pathlib import Path
from seqmodal.errors import Mismatch
from seqmodal.tokenizers import load_tokenizers
try:
    print(load_tokenizers(Path("runs/drawings/model")))
except Mismatch as error:
    print(f"refused: {error}")
"""


@pytest.mark.slow
def test_another_version_is_taken_where_it_does_the_same_and_refused_where_not(place: Place, told: str) -> None:
    def loaded(version: str, *changes: tuple[str, str]) -> str:
        """What loading says, with the package changed and installed as another version."""
        for old, new in changes:
            done = place.run(str(place.bin / "python"), "-c", CHANGED, version, old, new)
            assert done.returncode == 0, done.stderr
        place.do("bash", "rm -rf drawings/build && pip install ./drawings")
        return place.do("python", LOAD)

    turned = ("[[1, 0], [1, 1]", "[[1, 1], [1, 0]")
    told_more = (
        "def to_dict(self) -> dict:\n        return {}",
        "def to_dict(self) -> dict:\n        return {'of': 8}",
    )
    assert "refused" not in loaded("1.1", ("a direction an id", "one direction an id"))
    said = loaded("2.0", turned)
    for part in ("refused", "'drawing'", "drawings-for-seqmodal 1.0", "-seqmodal 2.0", "examples become other ids"):
        assert part in said, said
    assert "of is 8 and was None" in loaded("2.1", told_more)
    said = loaded("3.0", turned[::-1], told_more[::-1], ("def examples", "def instances"))
    assert "refused" in said and "seqmodal 3.0" in said
    place.do("bash", "pip uninstall -y drawings-for-seqmodal")
    done = place.run("seqmodal", "generate", "runs/drawings", "--out", "again.xy", "--seed", "1")
    assert done.returncode == 1 and "drawings-for-seqmodal 1.0" in done.stderr and "install it" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not MIDITOK, reason="needs miditok")
def test_a_tokenizer_of_miditok(place: Place) -> None:
    import pretty_midi

    (place.work / "tunes").mkdir()
    for number in range(8):
        midi = pretty_midi.PrettyMIDI()
        midi.instruments.append(pretty_midi.Instrument(0))
        for at in range(40):
            midi.instruments[0].notes.append(pretty_midi.Note(80, 60 + (at * (number + 1)) % 12, at / 4, at / 4 + 0.2))
        midi.write(str(place.work / "tunes" / f"{number}.mid"))
    write_files(place, "remi")
    project = next(code for mark, _, code in blocks() if mark.endswith("pyproject.toml"))
    (place.work / "remi" / "pyproject.toml").write_text(project.replace("drawings-for", "remi-for"))
    place.do("bash", "pip install ./remi")
    (code,) = (code for mark, _, code in blocks() if mark == "run with miditok")
    told = place.do("bash", code.replace("--minutes 1 ", TINY))
    assert "remi keeps all laws of a tokenizer" in told
    assert pretty_midi.PrettyMIDI(str(place.work / "remi.mid")).instruments
