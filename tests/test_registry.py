"""Tokenizers by name: found in the namespace package, and a broken or doubled plug-in names itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from toy import Digits, Palette

from seqmodal.errors import BadInput, ConfigError, Mismatch
from seqmodal.tokenizers import Tokenizer, available, failures, fingerprint, load_tokenizers, save_tokenizers, tokenizer
from seqmodal.tokenizers.saved import _probes, decode_fingerprint
from tokenizers_ext.midi import MidiTokenizer


def test_midi_is_there() -> None:
    entry = available()["midi"]
    assert entry.cls is MidiTokenizer and entry.module == "tokenizers_ext.midi"
    assert Path(entry.file).name == "midi.py" and entry.distribution and entry.summary
    assert {"Readable", "Writable", "Grammatical", "Augmentable", "Exemplary"} <= set(entry.abilities)
    assert "Fittable" not in entry.abilities
    assert failures() == ()
    assert isinstance(tokenizer("midi"), Tokenizer)


def test_options_reach_the_constructor() -> None:
    assert tokenizer("midi", program=19).to_dict()["program"] == 19
    with pytest.raises(ConfigError, match="'midi'.*speed"):
        tokenizer("midi", speed=3)


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(ConfigError, match="'mid'.*band, .*midi"):
        tokenizer("mid")


GOOD = '''
class Colours:
    """Colours by name.

    More on colours.
    """
    name, vocab_size = "colours", 3
TOKENIZERS = {"%s": Colours}
'''


def ask(code: str, path: Sequence[Path] = (), **files: str) -> subprocess.CompletedProcess[str]:
    """Run code beside another distribution's modules of tokenizers_ext, with more places in the path."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "tokenizers_ext"
        place.mkdir()
        for name, text in files.items():
            (place / f"{name}.py").write_text(text)
        return subprocess.run(
            [sys.executable, "-c", "from seqmodal.tokenizers import *\n" + code], capture_output=True, text=True,
            timeout=60, env={**os.environ, "PYTHONPATH": os.pathsep.join([folder, *map(str, path)])},
        )


def test_plug_ins_of_other_distributions_and_broken_ones() -> None:
    done = ask(
        "e = available()['colours']\nprint(e.summary, e.module, e.abilities)\nprint(*failures())\n"
        "print(tokenizer('midi').vocab_size)\ntokenizer('nothing')",
        paint=GOOD % "colours", broken="import a_library_that_is_missing", no_table="x = 1", _private="1 / 0",
    )
    lines = done.stdout.splitlines()
    assert lines[0] == "Colours by name. tokenizers_ext.paint ()", done.stderr
    for part in ("tokenizers_ext.broken", "broken.py", "a_library_that_is_missing", "no_table.py", "TOKENIZERS"):
        assert part in lines[1]
        assert part in done.stderr.splitlines()[-1]  # and in the message of an unknown name
    assert "_private" not in lines[1]
    assert lines[2] == "388"


@pytest.mark.parametrize(("text", "told"), [
    ("TOKENIZERS = [1]", "TypeError: TOKENIZERS is a list, expected a dict of classes by name"),
    ("TOKENIZERS = {'one': 1}", "TypeError: TOKENIZERS has 'one': 1, expected a class by its name"),
    ("TOKENIZERS = {3: int}", "TypeError: TOKENIZERS has 3: <class 'int'>, expected a class by its name"),
    ("import sys; sys.exit('this needs Windows')", "SystemExit: this needs Windows"),
])  # fmt: skip
def test_whatever_a_plug_in_does_the_others_are_there(text: str, told: str) -> None:
    done = ask("print(tokenizer('midi').name)\nprint(*failures(), sep='\\n')", odd=text, paint=GOOD % "colours")
    name, broken = done.stdout.splitlines()
    assert name == "midi" and broken.endswith(told) and "tokenizers_ext.odd" in broken and "odd.py" in broken


def install(site: Path, name: str, **files: str) -> None:
    """A distribution, as an installer leaves it: files, what lists them, and other files of its own."""
    own = site / f"{name}-2.5.dist-info"
    own.mkdir(parents=True)
    (own / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.5\n")
    for other, text in files.items():
        path = own / "direct_url.json" if other == "direct_url" else site / "tokenizers_ext" / f"{other}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    (own / "RECORD").write_text("".join(f"tokenizers_ext/{file}.py,,\n" for file in files if file != "direct_url"))


def test_a_broken_plug_in_is_named_with_its_distribution(tmp_path: Path) -> None:
    install(tmp_path, "brittle", cracked="1 / 0")
    done = ask("print(*failures())", path=[tmp_path])
    assert done.stdout.startswith(f"tokenizers_ext.cracked ({tmp_path}/tokenizers_ext/cracked.py, brittle 2.5): Zero")


def test_an_editable_install_is_known_by_name_and_version() -> None:
    """As `make` installs this project; the folder says nothing elsewhere."""
    assert available()["midi"].origin.startswith("seqmodal ")


@pytest.mark.parametrize("below", [".", "src"])
def test_an_editable_install_of_another_project_too(tmp_path: Path, below: str) -> None:
    project = tmp_path / "my project"
    (project / below / "tokenizers_ext").mkdir(parents=True)
    (project / below / "tokenizers_ext" / "paint.py").write_text(GOOD % "colours")
    direct = {"url": project.as_uri(), "dir_info": {"editable": True}}
    install(tmp_path / "site", "paints", direct_url=json.dumps(direct))
    install(tmp_path / "site", "other", direct_url="[]")
    code = "print(available()['colours'].origin)"
    assert ask(code, path=[project / below, tmp_path / "site"]).stdout == "paints 2.5\n"
    assert ask(code, path=[project / below]).stdout == f"{(project / below).resolve()}\n"  # not known to be installed


def test_one_name_for_two_leaves_the_others_in_the_list() -> None:
    code = (
        "from seqmodal.tokenizers import available\nfrom seqmodal.tokenizers.registry import duplicates\n"
        "print('band' in available(), 'midi' in available(), *duplicates())"
    )
    said = ask(code, paint=GOOD % "midi").stdout
    assert said.startswith("True False two tokenizers are called 'midi': ") and "paint.py" in said
    listed = ask("from seqmodal.cli import main\nprint(main(['tokenizers']))", paint=GOOD % "midi")
    assert "\nband " in listed.stdout and "\nmidi " not in listed.stdout and listed.stdout.endswith("\n0\n")
    assert listed.stderr.startswith("broken: two tokenizers are called 'midi': ")


def test_one_name_for_two_raises_with_both_and_only_where_it_is_asked_for() -> None:
    done = ask("print(tokenizer('band').name)\ntokenizer('midi')", paint=GOOD % "midi")
    message = done.stderr.splitlines()[-1]
    assert done.stdout == "band\n"
    assert "ConfigError" in message and "paint.py" in message and "midi.py" in message


TWO = """
from pathlib import Path
from tokenizers_ext.midi import MidiTokenizer
place = Path({place!r})
print(tokenizer(MidiTokenizer()).vocab_size, tokenizer("bytes").vocab_size)
save_tokenizers([MidiTokenizer()], place)
print(load_tokenizers(place, {{"midi": MidiTokenizer}})[0].vocab_size)
load_tokenizers(place)
"""


def test_of_one_name_for_two_the_class_can_be_given(tmp_path: Path) -> None:
    done = ask(TWO.format(place=str(tmp_path)), paint=GOOD % "midi")
    assert done.stdout.split() == ["388", "256", "388"], done.stderr
    assert "two tokenizers are called 'midi'" in done.stderr.splitlines()[-1]


def test_an_object_is_taken_in_place_of_a_name() -> None:
    own = Digits()
    assert tokenizer(own) is own
    unfitted = tokenizer("characters")
    assert tokenizer(unfitted) is unfitted
    for wrong, told in ((Digits, "make an object of it"), (3, "lacks encode, decode, to_dict, from_dict")):
        with pytest.raises(ConfigError, match=told):
            tokenizer(wrong)
    with pytest.raises(ConfigError, match="size means nothing"):
        tokenizer(own, size=3)


def test_one_that_cannot_be_made_says_why() -> None:
    made = GOOD.replace("    name,", "    def __init__(self):\n        import missing_library\n    name,") % "colours"
    done = ask("tokenizer('colours')", paint=made)
    assert "'colours' cannot be made: ModuleNotFoundError: No module named 'missing_library'" in done.stderr


EXTRA = {"digits": Digits, "palette": Palette}


def test_saved_tokenizers_come_back(tmp_path: Path) -> None:
    colours = np.array([0.1, 0.5, 0.9], np.float32)
    save_tokenizers([tokenizer("midi", program=7), Digits(size=12), Palette(colours)], tmp_path)
    midi, digits, palette = load_tokenizers(tmp_path, EXTRA)
    assert midi.to_dict()["program"] == 7 and digits.vocab_size == 12
    assert np.array_equal(palette.colours, colours) and palette.colours.dtype == colours.dtype


def test_arrays_stand_in_safetensors_and_only_where_there_are_some(tmp_path: Path) -> None:
    save_tokenizers([Digits()], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizers.json"]
    save_tokenizers([Palette()], tmp_path)
    assert (tmp_path / "tokenizers.safetensors").is_file()


def test_an_unregistered_class_has_to_be_passed(tmp_path: Path) -> None:
    save_tokenizers([Digits()], tmp_path)
    with pytest.raises(Mismatch, match="'digits' of toy .*tokenizers="):
        load_tokenizers(tmp_path)


def test_a_tokenizer_that_does_something_else_now_is_refused(tmp_path: Path) -> None:
    class Changed(Digits):
        def encode(self, item: object) -> np.ndarray:
            return super().encode(item)[::-1]

    save_tokenizers([Digits()], tmp_path)
    with pytest.raises(Mismatch, match="examples become other ids"):
        load_tokenizers(tmp_path, {"digits": Changed})


def test_a_tokenizer_that_only_decodes_to_something_else_is_refused(tmp_path: Path) -> None:
    class Changed(Digits):
        def decode(self, ids: np.ndarray) -> list[int]:
            return super().decode(ids)[::-1]

    class Failing(Digits):
        def decode(self, ids: np.ndarray) -> list[int]:
            raise ValueError("no more")

    save_tokenizers([Digits()], tmp_path)
    for now in (Changed, Failing):
        with pytest.raises(Mismatch, match="decodes the same ids to something else"):
            load_tokenizers(tmp_path, {"digits": now})
    rows = json.loads((tmp_path / "tokenizers.json").read_text())
    del rows[0]["decode_fingerprint"]  # as folders were before there was one
    (tmp_path / "tokenizers.json").write_text(json.dumps(rows))
    assert load_tokenizers(tmp_path, {"digits": Changed})


def test_what_decoding_tells_nothing_about_is_not_compared() -> None:
    class Restless(Digits):
        calls = 0

        def decode(self, ids: np.ndarray) -> list[int]:
            self.calls += 1
            return super().decode(np.roll(ids, self.calls))

    class Broken(Digits):
        decode = None  # type: ignore[assignment]

    assert [decode_fingerprint(one) for one in (Restless(), Broken(), Palette())] == ["", "", ""]
    prints = {decode_fingerprint(one) for one in (Digits(), Digits(size=11), tokenizer("midi"), tokenizer("band"))}
    assert len(prints) == 4 and "" not in prints


@pytest.mark.parametrize("size", [0, 1, 3, 1000, 1001, 1 << 22])
def test_probes_are_ids_and_of_a_small_vocabulary_all(size: int) -> None:
    rows = _probes(size)
    assert all(row.dtype == np.int32 and row.min() >= 0 and row.max() < size and len(row) <= 1000 for row in rows)
    assert len(rows) == (3 if size else 0)
    if 0 < size <= 1000:
        assert rows[0].tolist() == list(range(size))


def test_settings_that_cannot_be_saved_are_named(tmp_path: Path) -> None:
    class Numbered(Digits):
        def to_dict(self) -> dict[str, object]:
            return {"size": np.int64(3)}

    with pytest.raises(BadInput, match="digits: its to_dict has size, which cannot be saved"):
        save_tokenizers([Numbered()], tmp_path)


def test_a_changed_setting_or_array_is_refused(tmp_path: Path) -> None:
    save_tokenizers([Palette()], tmp_path)
    from safetensors.numpy import load_file, save_file

    arrays = load_file(tmp_path / "tokenizers.safetensors")
    save_file({key: value + 0.01 for key, value in arrays.items()}, tmp_path / "tokenizers.safetensors")
    with pytest.raises(Mismatch):
        load_tokenizers(tmp_path, EXTRA)
    save_tokenizers([Digits()], tmp_path)
    rows = json.loads((tmp_path / "tokenizers.json").read_text())
    rows[0]["config"]["size"] = 11
    (tmp_path / "tokenizers.json").write_text(json.dumps(rows))
    with pytest.raises(Mismatch):
        load_tokenizers(tmp_path, EXTRA)


@pytest.mark.parametrize("text", [None, "", "{", "[]x"])
def test_an_unreadable_file_says_so(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "tokenizers.json").write_text(text)
    with pytest.raises(BadInput, match=r"tokenizers\.json"):
        load_tokenizers(tmp_path)


def test_missing_or_damaged_arrays_say_so(tmp_path: Path) -> None:
    save_tokenizers([Palette()], tmp_path)
    arrays = tmp_path / "tokenizers.safetensors"
    for content in (arrays.read_bytes()[:-1], b"", None):
        arrays.unlink() if content is None else arrays.write_bytes(content)
        with pytest.raises(BadInput, match="tokenizers"):
            load_tokenizers(tmp_path, EXTRA)


def test_fingerprints_tell_apart() -> None:
    different = [Digits(), Digits("other"), Digits(size=11), Palette(), Palette(np.zeros(3, np.float32)),
                 tokenizer("midi"), tokenizer("midi", program=1), tokenizer("band")]
    prints = [fingerprint(one) for one in different]
    assert len(set(prints)) == len(prints)
    assert fingerprint(Digits()) == prints[0]
