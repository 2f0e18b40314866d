"""Draws the diagrams of docs/architecture.md from text: `python docs/draw.py`.

The rooms are the layers that pyproject.toml has import-linter check; the step of training is the table below.
"""

import html
import tomllib
from collections.abc import Sequence
from pathlib import Path

DOCS = Path(__file__).resolve().parent
ROOMS = {
    "finetune.py": "commands: parse, check, call",
    "sweeps": "many runs over one configuration",
    "serving": "export, import, hubs",
    "tasks": "what goes together: captioning, …",
    "report": "pages, plots, cards, contact sheets",
    "evaluation": "judge, intervals, comparison, results",
    "trainers": "the loop, objectives, optimizers, checkpoints",
    "rewards": "what step 2 is paid for, and its threads",
    "metrics": "scores as pure functions",
    "preprocessors": "samples to tensors",
    "models": "networks, tokenizers, weights",
    "data": "annotations, images, features to samples",
    "conf, config.py": "typed settings and their reader",
}
# (lane, first column, columns, text): what happens when, in which thread
STEP = (
    ("main thread", 0, 2, "encode image + prompt A"),
    ("main thread", 2, 2, "draw K candidates of A"),
    ("main thread", 4, 2, "encode B, draw its candidates"),
    ("reward threads", 4, 2, "tokenize, CIDEr-D, style, …: A"),
    ("main thread", 6, 2, "decode A's candidates, loss, backward"),
    ("reward threads", 6, 2, "the same for B"),
    ("main thread", 8, 2, "decode B's, loss, backward"),
    ("main thread", 10, 1, "optimizer step"),
)
_STYLE = (
    "<style>text{font:13px system-ui,sans-serif;fill:currentColor}.b{font-weight:600}"
    "rect{fill:none;stroke:currentColor;rx:4}.lane{opacity:.25}line{stroke:currentColor}</style>"
)


def rooms() -> str:
    """The layers from top to bottom; a room imports from those below it only."""
    contract = tomllib.loads((DOCS.parent / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    layers = [["finetune.py"], *([name.strip() for name in layer.split(":")] for layer in contract["layers"])]
    layers[-1] = ["data", "conf, config.py"]
    parts, height, width = [], 44, 720
    for row, names in enumerate(layers):
        part = width / len(names)
        for column, name in enumerate(names):
            x, y = 8 + column * part, 8 + row * (height + 10)
            parts.append(f'<rect x="{x}" y="{y}" width="{part - 10:.0f}" height="{height}"/>')
            parts.append(_text(x + 10, y + 18, name, "b") + _text(x + 10, y + 35, ROOMS[name]))
    return _svg(parts, width + 10, 8 + len(layers) * (height + 10))


def step() -> str:
    """An update of two micro-batches, A and B, over time."""
    lanes = list(dict.fromkeys(lane for lane, *_ in STEP))
    parts, unit, height = [], 92, 64
    for row, lane in enumerate(lanes):
        y = 8 + row * (height + 12)
        parts.append(f'<rect class="lane" x="8" y="{y}" width="{115 + 11 * unit}" height="{height}"/>')
        parts.append(_text(16, y + 36, lane, "b"))
    for lane, first, columns, text in STEP:
        x, y = 118 + first * unit, 14 + lanes.index(lane) * (height + 12)
        parts.append(f'<rect x="{x}" y="{y}" width="{columns * unit - 8}" height="{height - 12}"/>')
        parts += [_text(x + 8, y + 20 + 17 * number, line) for number, line in enumerate(_lines(text, columns * 11))]
    return _svg(parts, 130 + 11 * unit, 8 + len(lanes) * (height + 12))


def _lines(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" class="{kind}">{html.escape(text)}</text>'


def _svg(parts: Sequence[str], width: float, height: float) -> str:
    body = "\n".join([_STYLE, *parts])
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} color="#777">\n{body}\n</svg>\n'


DRAWINGS = {"rooms.svg": rooms, "scst_step.svg": step}

if __name__ == "__main__":
    for name, draw in DRAWINGS.items():
        (DOCS / name).write_text(draw(), encoding="utf-8")
