"""Plots for a page: SVG that takes its text colour and font from the page, light or dark."""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = ("#3b76d6", "#d9662b", "#2a9d6f", "#a34bb8", "#b8912a", "#c9406b", "#5b8a9a", "#7a6a5a")
"""Of the runs, in order; each is readable on white and on black."""
_INK = "#010203"  # stands for the page's text colour
_SIZE = (4.2, 2.4)  # inches; the page scales it
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "stylecap",  # the same plot is the same file
    "font.size": 9,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _INK),
}


def curves(series: Mapping[str, tuple[Sequence[float], Sequence[float]]], colours: Mapping[str, str]) -> str:
    """Lines over optimizer steps: name -> (steps, values), in the colour of the name."""

    def draw(axes: Axes) -> None:
        for name, (steps, values) in series.items():
            marker = "o" if len(steps) < 12 else ""
            axes.plot(steps, values, color=colours[name], linewidth=1.4, marker=marker, markersize=3)

    return _svg(draw)


def points(values: Sequence[tuple[float, float]], colours: Sequence[str]) -> str:
    """A point for each (x, y)."""

    def draw(axes: Axes) -> None:
        axes.scatter([x for x, _ in values], [y for _, y in values], c=list(colours), s=22)
        if min(x for x, _ in values) > 0 and max(x for x, _ in values) > 20 * min(x for x, _ in values):
            axes.set_xscale("log")

    return _svg(draw)


def trade_off(
    values: Sequence[tuple[float, float]],
    colours: Sequence[str],
    marked: Sequence[bool],
    names: tuple[str, str],
    *,
    line: float | None = None,
) -> str:
    """A point for each (x, y), whole where `marked` and hollow elsewhere; `names` of the axes, and a `line` at y."""

    def draw(axes: Axes) -> None:
        fills = [colour if whole else "none" for colour, whole in zip(colours, marked, strict=True)]
        xs, ys = [x for x, _ in values], [y for _, y in values]
        axes.scatter(xs, ys, s=34, c=fills, edgecolors=list(colours), linewidths=1.4, zorder=3)
        if line is not None:
            axes.axhline(line, color=_INK, linewidth=1.0, linestyle="--")
            axes.annotate("people", (1, line), xycoords=("axes fraction", "data"), ha="right", va="bottom")
        axes.set_xlabel(names[0])
        axes.set_ylabel(names[1])
        axes.margins(0.12)

    return _svg(draw, size=(4.2, 3.0))


def steered(panels: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]], *, line: float | None) -> str:
    """Panels beside each other that share their y: what is steered -> name -> (how far, values). Names have the same
    colour everywhere and stand in the first panel; `line` is people's."""
    names = list(dict.fromkeys(name for series in panels.values() for name in series))
    highest = max([line or 0, *(y for series in panels.values() for _, ys in series.values() for y in ys)])

    def drawer(title: str, series: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Callable[[Axes], None]:
        def draw(axes: Axes) -> None:
            for name, (xs, ys) in series.items():
                colour = COLOURS[names.index(name) % len(COLOURS)]
                axes.plot(xs, ys, color=colour, linewidth=1.6, marker="o", markersize=3.5, label=name)
            if line is not None:
                axes.axhline(line, color=_INK, linewidth=1.0, linestyle="--", label="people's style is found, %")
            axes.set_xlabel(title)
            axes.set_ylim(0, 1.05 * highest or None)

        return draw

    draws = [drawer(title, series) for title, series in panels.items()]
    return _svg(*draws, size=(3.2 * len(draws) + 1.0, 3.6), legend=True)


def as_file(svg: str) -> str:
    """A plot for a page as a file of its own, black on white."""
    sheet = "background: #fff; color: #1d1d1f; font-family: system-ui, sans-serif"
    return svg.replace("<svg", f'<svg style="{sheet}"', 1) + "\n"


def heat_map(counts: Sequence[Sequence[float]]) -> str:
    """A matrix of shares by row, 0 to 1: darker is more."""

    def draw(axes: Axes) -> None:
        axes.imshow(counts, cmap="Oranges", vmin=0, vmax=1, interpolation="nearest", aspect="equal")
        axes.set_xlabel("named style")
        axes.set_ylabel("asked style")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.grid(visible=False)

    return _svg(draw, size=(4.2, 4.2))


def span_map(spans: Sequence[str], weights: Sequence[Sequence[float]]) -> str:
    """Weights, 0 to 1, of each layer (a column) and span (a row): darker is more."""

    def draw(axes: Axes) -> None:
        axes.imshow(weights, cmap="Oranges", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
        axes.set_xlabel("layer")
        axes.set_xticks(range(len(weights[0])), [str(number + 1) for number in range(len(weights[0]))])
        axes.set_yticks(range(len(spans)), list(spans))
        axes.grid(visible=False)

    return _svg(draw, size=(3.0, 1.8))


def _svg(*draws: Callable[[Axes], None], size: tuple[float, float] = _SIZE, legend: bool = False) -> str:
    """Axes beside each other that share their y, one for each of `draws`; a legend of the first below them."""
    with mpl.rc_context(_STYLE):
        # A figure of its own, not pyplot's: no state is shared, and no display is looked for.
        figure = Figure(figsize=size, layout="constrained")
        row = figure.subplots(1, len(draws), squeeze=False, sharey=True)[0]
        for axes, draw in zip(row, draws, strict=True):
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(color=_INK, alpha=0.12, linewidth=0.6)
            draw(axes)
        if legend:
            figure.legend(*row[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return _for_a_page(buffer.getvalue())


def _for_a_page(svg: str) -> str:
    """Without the file's head, its size, its font and names that another plot on the page has as well."""
    svg = svg[svg.index("<svg") :].replace(_INK, "currentColor")
    head, body = svg.split(">", 1)
    head = re.sub(r' (?:width|height)="[^"]*"', "", head)
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r' id="[A-Za-z0-9.]+_[0-9]+"', "", body)
    return f"{head}>" + re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", body)
