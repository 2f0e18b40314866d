"""Style accuracy, content and variety of a run of captions over the intensity of the style and over guidance.

    python -m benchmarks.intensity RUN [--images 150] [--guidance 0 0.25 0.5 1] [--set data.feature_dir=DIR]

Decodes a split with `eval.style_intensity` of 0, 0.25, ... 2, and with `eval.style_guidance` of each strength that is
given, everything else as the run's conf.json has it; one seed, one checkpoint. Writes steering.json and steering.svg
into RUN, or into --output, and prints a line of JSON for each value.
"""

import argparse
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from config import CAPTIONING, Config, parse_config
from data.files import read_object, write_json, write_text
from data.run_folder import RunFolder
from data.samples import Split
from report import plots
from tasks.captioning.captioner import Captioner
from tasks.captioning.features import feature_cache
from tasks.captioning.records import search_settings
from tasks.captioning.task import TASK, captioner_dtype
from tasks.evaluating import find_checkpoint

INTENSITIES = [step / 4 for step in range(9)]
SHOWN = {
    "CIDEr": "CIDEr",
    "style": "asked style is found, %",
    "sentences": "by sentences, %",
    "different": "different, %",
}
TITLES = {"intensity": "intensity of the style", "guidance": "guidance over the style"}


def configuration(run: Path, sets: Sequence[str], split: str | None) -> Config:
    """A run's configuration, where the run lies now; Java's metrics are not asked for. ValueError for another task."""
    file = RunFolder(run).conf
    document = read_object(file)
    if document.get("task", CAPTIONING) != CAPTIONING:
        raise ValueError(f"{run} is no run of captions: name one of the task {CAPTIONING}")
    fixed = [f"work_dir={json.dumps(str(run))}", "eval.meteor=false", "eval.spice=false", "eval.bootstrap=0"]
    fixed += [f"eval.split={split}"] if split else []
    config: Config = parse_config(document, sets=[*sets, *fixed], where=str(file))
    return config


def drawn(records: Split, images: int | None, seed: int) -> Split:
    """So many images of a split, drawn by `seed`."""
    if images is None or images >= records.n_images:
        return records
    return records.subset(random.Random(seed).sample(list(records.image_ids), images))


def row_of(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of an evaluation: scores times 100, of all captions and of each style's."""
    style = metrics["style"]
    judges = {"style": style, "sentences": style["sentences"]} if style else {}
    judges = {name: found for name, found in judges.items() if found}
    row: dict[str, Any] = {"CIDEr": metrics["CIDEr"], **{name: found["accuracy"] for name, found in judges.items()}}
    row["different"] = metrics["diversity"]["different"]
    row = {name: round(100 * value, 1) for name, value in row.items()}
    row["per_style"] = {
        name: {"CIDEr": round(100 * scores["CIDEr"], 1)}
        | {judge: round(100 * found["per_style"][name], 1) for judge, found in judges.items()}
        for name, scores in metrics["per_style"].items()
    }
    return row


def people(metrics: Mapping[str, Any]) -> float | None:
    """How often the first judge finds the style of people's captions, times 100."""
    return round(100 * metrics["style"]["evaluator"]["accuracy"], 1) if metrics["style"] else None


def measure(config: Config, settings: Mapping[str, Sequence[float]], images: int | None) -> dict[str, Any]:
    """What steering.json holds: for each name of `settings` a row for each of its values."""
    whole = TASK.read(config, config.eval.split)
    records = drawn(whole, images, config.seed)
    checkpoint = find_checkpoint(config.work_dir, None)
    built = TASK.open(config, checkpoint, whole)
    features = feature_cache(config, built.model, built.preprocessor, whole, mirrored=False)
    captioner = Captioner(built.model, built.preprocessor, dtype=captioner_dtype(config), features=features)
    requests = records.requests()
    report: dict[str, Any] = {
        "checkpoint": str(checkpoint),
        "split": whole.name,
        "images": records.n_images,
        "captions": len(requests),
    }
    for name, values in settings.items():
        report[name] = []
        for value in values:
            written = captioner.write(requests, **search_settings(config) | {f"style_{name}": value})
            metrics = TASK.judge(config, records, (written, []), f"{name} {value:g}").metrics
            report["people"] = people(metrics)
            report[name].append({name: value, **row_of(metrics)})
            print(json.dumps(report[name][-1]), flush=True)
    return report


def plot(report: Mapping[str, Any]) -> str:
    """The measured values over what was steered, as the content of an SVG file."""
    panels: dict[str, Any] = {}
    for name, title in TITLES.items():
        rows = report.get(name, [])
        series = {
            shown: ([row[name] for row in rows], [row[key] for row in rows])
            for key, shown in SHOWN.items()
            if rows and all(key in row for row in rows)
        }
        panels |= {title: series} if series else {}
    return plots.as_file(plots.steered(panels, line=report["people"]))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, help="folder of a trained run of captions")
    parser.add_argument("--intensity", type=float, nargs="*", default=INTENSITIES)
    parser.add_argument("--guidance", type=float, nargs="*", default=[])
    parser.add_argument(
        "--images", type=int, help="so many images of the split, drawn by the run's seed; all if left out"
    )
    parser.add_argument("--split")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="sets")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args(argv)
    settings = {"intensity": given.intensity, "guidance": given.guidance}
    config = configuration(given.run, given.sets, given.split)
    report = measure(config, {name: values for name, values in settings.items() if values}, given.images)
    output = given.output or given.run
    write_json(output / "steering.json", report)
    write_text(output / "steering.svg", plot(report))


if __name__ == "__main__":
    main()
