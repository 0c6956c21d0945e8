"""The floors of docs/architecture.md: imports only go down. This file is their list."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# A part of the house and the parts it may import, besides itself.
BASE = {"seqmodal.config", "seqmodal.errors", "seqmodal.show", "seqmodal.__version__"}
F1 = {"seqmodal.nn", "seqmodal.tokenizers"}
F2 = {"seqmodal.decoder", "seqmodal.data", "seqmodal.sequence", "seqmodal.objective"}
F2 |= {"seqmodal.inputs", "seqmodal.outputs", "seqmodal.start"}
F3 = {"seqmodal.generation", "seqmodal.evaluation", "seqmodal.checkpoint", "seqmodal.gpt2", "seqmodal.prompt"}
F3 |= {"seqmodal.transfer"}
F4 = {"seqmodal.model", "seqmodal.training"}
FACE = {"seqmodal"}  # `seqmodal.train` and its like reach up to the fourth floor
MAY: dict[str, set[str]] = {
    "seqmodal": set(),
    "seqmodal.config": {"seqmodal.errors"},
    "seqmodal.errors": set(),
    "seqmodal.show": set(),
    "seqmodal.nn": BASE,
    "seqmodal.tokenizers": BASE,
    "tokenizers_ext": BASE | {"seqmodal.tokenizers"},
    "seqmodal.decoder": BASE | F1,
    "seqmodal.sequence": BASE | F1,
    "seqmodal.objective": BASE | F1 | {"seqmodal.sequence"},
    "seqmodal.data": BASE | F1 | {"seqmodal.sequence", "seqmodal.objective"},
    "seqmodal.inputs": BASE | F1 | {"seqmodal.sequence", "seqmodal.data"},
    "seqmodal.outputs": BASE | F1,
    "seqmodal.start": BASE | F1 | {"seqmodal.sequence", "seqmodal.inputs"},
    **dict.fromkeys(F3, BASE | F1 | F2),
    "seqmodal.model": BASE | F1 | F2 | F3,
    "seqmodal.training": BASE | F1 | F2 | F3 | {"seqmodal.model"},  # it writes samples while it trains
    "seqmodal.explore": BASE | F1 | F2 | F3 | {"seqmodal.model"},
    "seqmodal.recipes": BASE | F1 | F2 | F3 | F4 | FACE | {"tokenizers_ext"},
    "seqmodal.cli": BASE | F1 | F2 | F3 | F4 | FACE | {"seqmodal.explore"},
    "seqmodal.__main__": {"seqmodal.cli"},
}
# A library and the only parts that may import it.
ONLY = {
    "lightning": {"seqmodal.training"},
    "pytorch_lightning": set(),  # its old name: two copies of every class
    "matplotlib": {"seqmodal.show"},
    "music21": {"seqmodal.data"},
    "sklearn": {"seqmodal.data"},
}
HEAVY = {"torch", "torchaudio", "lightning", "matplotlib", "PIL", "symusic", "pretty_midi", "soundfile", "music21"}
HEAVY |= {"soxr", "sklearn", "tiktoken", "tokenizers"}
# Parts that import the heavy libraries when a function needs them, not before.
LATE = {"seqmodal", "seqmodal.config", "seqmodal.errors", "seqmodal.show", "seqmodal.tokenizers", "tokenizers_ext"}
LATE |= {"seqmodal.cli", "seqmodal.__main__"}
STANDARD_ONLY = {"seqmodal", "seqmodal.config", "seqmodal.errors"}


def modules() -> dict[str, Path]:
    """Every module of the project by its name."""
    found = {}
    for folder in ("seqmodal", "tokenizers_ext", "recipes"):
        package = "seqmodal.recipes" if folder == "recipes" else folder
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join([package, *(part for part in parts if part != "__init__")])] = path
    return found


def part_of(module: str) -> str:
    names = module.split(".")
    return names[0] if names[0] == "tokenizers_ext" else ".".join(names[:2])


def imports(tree: ast.Module, module: str, is_package: bool, known: set[str]) -> Iterator[tuple[str, int, bool]]:
    """(module imported, line, whether that happens when the importing module is loaded)."""

    def walk(node: ast.AST, at_load: bool) -> Iterator[tuple[str, int, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from ((alias.name, child.lineno, at_load) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = child.module or ""
                if child.level:
                    parents = module.split(".") if is_package else module.split(".")[:-1]
                    parents = parents[: len(parents) - child.level + 1]
                    base = ".".join([*parents, base] if base else parents)
                for alias in child.names:
                    name = f"{base}.{alias.name}"
                    yield (name if name in known or alias.name == "__version__" else base), child.lineno, at_load
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                yield from ((name, line, False) for part in child.body for name, line, _ in walk_one(part))
                for part in child.orelse:
                    yield from walk(ast.Module([part], []), at_load)
            else:
                inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from walk(child, at_load and not inside)

    def walk_one(statement: ast.stmt) -> Iterator[tuple[str, int, bool]]:
        return walk(ast.Module([statement], []), False)

    yield from walk(tree, True)


def violations(module: str, source: str, known: set[str], is_package: bool = False) -> list[str]:
    """What `source`, standing at `module`, imports and may not."""
    here, found = part_of(module), []
    if here not in MAY:
        return [f"{module}: {here} has no floor yet; give it one in MAY"]
    for name, line, at_load in imports(ast.parse(source), module, is_package, known):
        top, there = name.split(".")[0], part_of(name)
        ours = top in ("seqmodal", "tokenizers_ext")
        says = f"{module}:{line} imports {name}"
        if ours and there != here and there not in MAY[here] and not (module == "seqmodal" and not at_load):
            found.append(f"{says}: not below {here}")
        if here not in ONLY.get(top, {here}):
            found.append(f"{says}: {top} belongs to {', '.join(sorted(ONLY[top])) or 'nobody'}")
        if at_load and here in LATE and top in HEAVY:
            found.append(f"{says} when it is loaded: import it inside the function that needs it")
        if here in STANDARD_ONLY and not ours and top not in sys.stdlib_module_names:
            found.append(f"{says}: {here} needs nothing but the standard library")
    return found


def test_imports_only_go_down():
    known = modules()
    assert "seqmodal.errors" in known
    wrong = []
    for module, path in sorted(known.items()):
        wrong += violations(module, path.read_text(encoding="utf-8"), set(known), path.name == "__init__.py")
    assert not wrong, "\n".join(["", *wrong])


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("seqmodal.nn.block", "from seqmodal.tokenizers.vocabulary import Vocabulary"),
        ("seqmodal.tokenizers.registry", "def f():\n    from seqmodal import nn"),
        ("seqmodal.tokenizers.registry", "import torch"),
        ("seqmodal.tokenizers.registry", "import tokenizers_ext.midi"),
        ("seqmodal.data.store", "from ..decoder import Decoder"),
        ("seqmodal.sequence", "from seqmodal.data.store import Store"),
        ("seqmodal.generation.loop", "if True:\n    import seqmodal.evaluation"),
        ("seqmodal.evaluation.music", "import seqmodal"),
        ("seqmodal.model", "import typing\nif typing.TYPE_CHECKING:\n    from seqmodal.training import train"),
        ("seqmodal.model", "from seqmodal.recipes import music"),
        ("seqmodal.recipes.music", "from seqmodal.cli import main"),
        ("seqmodal.checkpoint", "import lightning.pytorch"),
        ("seqmodal.training.run", "import pytorch_lightning"),
        ("seqmodal.recipes.music", "from matplotlib import pyplot"),
        ("seqmodal.show.sound", "from seqmodal.errors import BadInput"),
        ("seqmodal.show.sound", "import soundfile"),
        ("seqmodal.show.sound", "try:\n    import PIL\nexcept ImportError:\n    PIL = None"),
        ("seqmodal.config", "def f():\n    import numpy"),
        ("seqmodal.newcomer", "import os"),
        ("tokenizers_ext.midi", "from seqmodal.data.source import find_files"),
    ],
)
def test_the_guard_catches(module, source):
    assert len(violations(module, source, {*modules(), "seqmodal.nn", "seqmodal.training"})) >= 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("seqmodal.nn.block", "from .attention import Attention\nimport torch"),
        ("seqmodal.data.loader", "from seqmodal import __version__\nfrom seqmodal.sequence import compose"),
        ("seqmodal.tokenizers.registry", "from seqmodal.errors import Mismatch\nimport numpy"),
        ("tokenizers_ext.midi", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pretty_midi"),
        ("tokenizers_ext.midi", "def read():\n    import symusic"),
        ("seqmodal.training.run", "import lightning\nfrom seqmodal.checkpoint import save_model"),
        ("seqmodal.recipes.music", "import seqmodal\nfrom seqmodal.model import Model"),
    ],
)
def test_the_guard_lets_through(module, source):
    assert violations(module, source, set(modules())) == []


def test_every_package_is_installed():
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    folders = {
        ".".join(name.split(".")[:-1]) if path.name != "__init__.py" else name
        for name, path in modules().items()
        if "." in name or path.name == "__init__.py"
    }
    assert folders == listed
    assert not (ROOT / "tokenizers_ext" / "__init__.py").exists()  # others add modules to this namespace
