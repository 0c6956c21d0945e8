"""One page to listen and look: an HTML file that carries its sounds and pictures and needs no network."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1140px; margin: 2.5rem auto; padding: 0 1rem;
       color: #343842; background: #fff; }
h1 { font-weight: 500; font-size: 1.5rem; }
article { margin: 0 0 2.5rem; }
h2 { font-weight: 500; font-size: 1.1rem; margin: 0 0 .3rem; }
p { margin: 0 0 .6rem; color: #80848c; }
img { width: 100%; height: auto; display: block; border: 1px solid #dededa; border-radius: 6px; background: #fff; }
audio { width: 100%; margin: .6rem 0; }
@media (prefers-color-scheme: dark) { body { color: #e4e4e0; background: #1c1e22; } }
"""


@dataclass(frozen=True)
class Item:
    """Something to hear and see; `wav` and `picture` are files that are read into the page, either may be absent."""

    title: str
    wav: Path | None = None
    picture: Path | None = None
    note: str = ""


def page(items: Iterable[Item], path: str | Path, title: str = "seqmodal") -> Path:
    """Write `items` as one self-contained HTML file and return its path. Starting one sound stops the others."""
    parts = [_article(item) for item in items]
    name = html.escape(title)
    script = (
        "document.addEventListener('play', e => document.querySelectorAll('audio').forEach("
        "a => { if (a !== e.target) a.pause(); }), true);"
    )
    Path(path).write_text(
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{name}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>{_STYLE}</style>\n'
        f"<h1>{name}</h1>\n" + "\n".join(parts) + f"\n<script>{script}</script>\n</html>\n",
        encoding="utf-8",
    )
    return Path(path)


def _article(item: Item) -> str:
    title = html.escape(item.title)
    lines = ["<article>", f"<h2>{title}</h2>"]
    if item.note:
        lines.append(f"<p>{html.escape(item.note)}</p>")
    if item.wav is not None:
        lines.append(f'<audio controls preload="metadata" src="{_data_uri(item.wav, "audio/wav")}"></audio>')
    if item.picture is not None:
        lines.append(f'<img alt="Piano roll of {title}" src="{_data_uri(item.picture, "image/png")}">')
    return "\n".join([*lines, "</article>"])


def _data_uri(path: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(Path(path).read_bytes()).decode('ascii')}"
