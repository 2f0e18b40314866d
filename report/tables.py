"""The tables of a page: which scores are shown, in which words, and what stands in each cell."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.bootstrap import Difference, compare, intervals
from report.runs import EvaluatedRun, at

MANY_STYLES = 12  # more are shown as a picture, and not cell by cell


@dataclass(frozen=True)
class Measure:
    """A score that a page shows: what it is called, where metrics.json has it, and how it is written.

    `draws`: its name in the bootstrap; None where it has no interval.
    """

    title: str
    path: str
    draws: str | None = None
    scale: float = 100
    digits: int = 1


CONTENT = (
    *(
        Measure(name, name, name)
        for name in (
            "BLEU-1",
            "BLEU-4",
            "ROUGE-L",
            "CIDEr",
            "CIDEr-D",
            "METEOR",
            "SPICE",
            "SBERT-sim",
            "CLIPScore",
            "RefCLIPScore",
        )
    ),
)
STYLE = (
    Measure("style accuracy, %", "style.accuracy", "style accuracy"),
    Measure("one of the first five, %", "style.top5"),
    Measure("style accuracy, mean of styles, %", "style.macro_accuracy"),
    Measure("the evaluator on human captions, %", "style.evaluator.accuracy"),
    Measure("its calibration error, %", "style.evaluator.calibration_error"),
    Measure("style accuracy by sentences, %", "style.sentences.accuracy"),
    Measure("that judge on human captions, %", "style.sentences.evaluator.accuracy"),
    Measure("captions that both judges read alike, %", "style.sentences.agreement"),
    Measure("distance between styles of an image", "style.sensitivity.distance", scale=1, digits=2),
    Measure("images whose styles are ignored, %", "style.sensitivity.ignored"),
    Measure("CIDEr-D of own less other styles", "style.style_cider.difference"),
)
FORM = (
    Measure("perplexity", "fluency.perplexity", scale=1),
    Measure("perplexity of human captions", "fluency.human_perplexity", scale=1),
    Measure("distinct-1, %", "diversity.distinct-1"),
    Measure("distinct-2, %", "diversity.distinct-2"),
    Measure("different captions, %", "diversity.different"),
    Measure("captions that end in a cut, %", "diversity.cut_off"),
    Measure("words of the training captions used, %", "diversity.vocabulary"),
    Measure("copied from training, %", "diversity.copied"),
    Measure("repeated pairs of words, %", "diversity.repeated"),
    Measure("ended, %", "ended", "ended"),
)
GROUPS = {"Content": CONTENT, "Style": STYLE, "Fluency and diversity": FORM}
HEADLINE = (
    *(Measure(name, name) for name in ("CIDEr", "BLEU-4", "ROUGE-L")),
    Measure("style accuracy", "style.accuracy"),
)
"""What stands for a run of captions in small tables."""
_COUNTS = ("seconds",)  # and what begins with "n_": they are no scores


@dataclass(frozen=True)
class Cell:
    """A score as written; `note`: its interval; `change`: the difference from the first run; `real`: beyond chance."""

    text: str
    note: str = ""
    change: str = ""
    real: bool = False


def overall(runs: Sequence[EvaluatedRun], replicates: int) -> dict[str, list[tuple[str, list[Cell]]]]:
    """Group -> rows of (title, a cell for each run); rows without a score in any run are left out."""
    draws = [intervals(run.contributions, replicates) for run in runs]
    differences: list[dict[str, Difference]] = [{}]
    differences += [_differences(runs[0], run, replicates) for run in runs[1:]]
    table: dict[str, list[tuple[str, list[Cell]]]] = {}
    for group, measures in (GROUPS | {"Scores": other_scores(runs)}).items():
        for measure in measures:
            cells = [
                _cell(measure, run.metric(measure.path), ends.get(measure.draws or ""), change.get(measure.draws or ""))
                for run, ends, change in zip(runs, draws, differences, strict=True)
            ]
            if any(cell.text != "–" for cell in cells):
                table.setdefault(group, []).append((measure.title, cells))
    return table


def other_scores(runs: Sequence[EvaluatedRun]) -> tuple[Measure, ...]:
    """The scores of all predictions that no measure above is for: those of other tasks, under their own names."""
    known = {measure.path for measures in GROUPS.values() for measure in measures}
    names = dict.fromkeys(name for run in runs for name, value in run.metrics.items() if isinstance(value, float))
    return tuple(Measure(name, name, name) for name in names if name not in known and name not in _COUNTS)


def headline(runs: Sequence[EvaluatedRun]) -> tuple[Measure, ...]:
    """The few scores that stand for these runs in small tables."""
    found = tuple(measure for measure in HEADLINE if any(run.metric(measure.path) is not None for run in runs))
    return found or other_scores(runs)[: len(HEADLINE)]


def _differences(first: EvaluatedRun, second: EvaluatedRun, replicates: int) -> dict[str, Difference]:
    """Nothing where the runs captioned different things: they stand side by side all the same."""
    if set(first.contributions.keys) != set(second.contributions.keys):
        return {}
    return compare(first.contributions, second.contributions, replicates)


def _cell(measure: Measure, value: Any, ends: list[float] | None, change: Difference | None) -> Cell:
    if value is None:
        return Cell("–")
    note = f"{_number(measure, ends[0])} to {_number(measure, ends[1])}" if ends else ""
    if change is None:
        return Cell(_number(measure, value), note)
    difference = measure.scale * change.difference
    return Cell(_number(measure, value), note, f"{difference:+.{measure.digits}f}", change.is_real)


def _number(measure: Measure, value: float) -> str:
    return f"{measure.scale * value:.{measure.digits}f}"


def per_style(runs: Sequence[EvaluatedRun]) -> list[tuple[str, list[list[str]]]]:
    """Rows of (style, for each run its CIDEr, BLEU-4, ROUGE-L and style accuracy)."""
    styles = sorted({style for run in runs for style in run.metrics.get("per_style", {})})
    return [(style, [_of_style(run, style) for run in runs]) for style in styles]


def _of_style(run: EvaluatedRun, style: str) -> list[str]:
    scores = run.metrics.get("per_style", {}).get(style, {})
    accuracy = (run.metric("style.per_style") or {}).get(style)
    values = [*(scores.get(name) for name in ("CIDEr", "BLEU-4", "ROUGE-L")), accuracy]
    return ["–" if value is None else f"{100 * value:.1f}" for value in values]


def controls(runs: Sequence[EvaluatedRun]) -> list[tuple[str, list[str]]]:
    """Rows of (run and control, the headline scores), for runs that have controls."""
    rows = []
    for run in runs:
        shown = {"as it is": run.metrics, **run.controls} if run.controls else {}
        for control, metrics in shown.items():
            values = [at(metrics, measure.path) for measure in headline(runs)]
            cells = ["–" if value is None else f"{100 * value:.1f}" for value in values]
            rows.append((f"{run.name}, {control}", cells))
    return rows


@dataclass(frozen=True)
class Confusion:
    """How the asked styles (rows) were named (columns): shares of each row; `worst`: the pairs most mixed up."""

    styles: list[str]
    shares: list[list[float]]
    worst: list[tuple[str, str, float]]


def confusion(run: EvaluatedRun) -> Confusion | None:
    """Of the styles that were asked for or named."""
    found = run.metric("style.confusion")
    if not found:
        return None
    counts = found["counts"]
    kept = [i for i in range(len(counts)) if sum(counts[i]) or sum(row[i] for row in counts)]
    styles = [found["styles"][i] for i in kept]
    shares = [[counts[i][j] / max(1, sum(counts[i])) for j in kept] for i in kept]
    pairs = [
        (styles[i], styles[j], shares[i][j])
        for i in range(len(kept))
        for j in range(len(kept))
        if i != j and shares[i][j] > 0
    ]
    return Confusion(styles, shares, sorted(pairs, key=lambda pair: -pair[2])[:15])


def settings(runs: Sequence[EvaluatedRun]) -> list[tuple[str, list[str]]]:
    """The keys whose values differ between runs that have a configuration, with each run's value."""
    known = [run.conf for run in runs if run.conf]
    keys = list(dict.fromkeys(key for conf in known for key in conf))
    rows = [(key, [_shown(run.conf.get(key)) for run in runs]) for key in keys]
    return [row for row in rows if len({_shown(conf.get(row[0])) for conf in known}) > 1]


def _shown(value: Any) -> str:
    return "" if value is None else str(value)


def samples(run: EvaluatedRun) -> list[dict[str, Any]]:
    """What step 2 sampled first, in the middle and last: the rows of these three steps."""
    steps = sorted({row["step"] for row in run.samples})
    shown = dict.fromkeys((steps[0], steps[len(steps) // 2], steps[-1])) if steps else {}
    return [row for row in run.samples if row["step"] in shown]
