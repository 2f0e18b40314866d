"""Scores of captions that any system wrote: COCO's results form against references of any form that can be read."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.files import write_json
from data.readers import read_split
from data.run_folder import RunFolder
from data.samples import Sample, Split
from evaluation.judging import judge
from models.sentences import MINILM
from rewards.document_frequency import table_of_split

_NAMED = 5  # how many ids an error names


def run_scoring(
    references: str,
    predictions: str,
    *,
    split: str,
    train: str | None,
    image_dir: str,
    output: str | None,
    java: bool,
    java_timeout_s: float,
    bootstrap: int,
) -> dict[str, Any]:
    """Score a file of predictions, and write what a run's folder has of an evaluation into the folder `output`.

    Args:
        references: Personality-Captions, COCO or Karpathy JSON; its form is told from its content.
        predictions: COCO's results form: [{"image_id", "caption"}, ...], with "style" where references have several.
        split: of a Karpathy file.
        train: training captions in the same forms, for style, fluency, copies and CIDEr-D's document frequencies.
        image_dir: where the pictures are that a report shows; scoring reads none.
        output: None keeps nothing.
        java: whether METEOR and SPICE are asked for.
        java_timeout_s, bootstrap: as in the configuration.

    Raises:
        ValueError: a file that cannot be read or has another form; ids that one side lacks, with the first few named.
    """
    asked = _read(references, split, image_dir).requests()
    captions = match(read_predictions(predictions), asked, predictions, references)
    known = _read(train, "train", image_dir) if train is not None else None
    with tempfile.TemporaryDirectory() as scratch:
        folder = RunFolder(output or scratch)
        judgement = judge(
            asked,
            captions,
            ended=None,
            train=known,
            frequency=table_of_split(folder, known) if known is not None else None,
            folder=folder,
            title=f"{predictions} against {references}",
            bootstrap=bootstrap,
            scorer="stylecap",
            meteor=java,
            spice=java,
            java_timeout_s=java_timeout_s,
            java_memory_gb=8,
            sentence_encoder=MINILM,
        )
        report = judgement.metrics | {"references": references, "predictions": predictions}
        if output is not None:
            write_json(folder.predictions, judgement.predictions)
            write_json(folder.metrics, report)
    return report


def read_predictions(path: str) -> list[tuple[str, str | None, str]]:
    """(image id, style or None, caption) of each record. ValueError, naming file and record, for another form."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): repair it") from error
    if not isinstance(content, list):
        raise ValueError(f'{path} must be a list of {{"image_id", "caption"}}, COCO\'s results form')
    found = []
    for number, record in enumerate(content):
        if not isinstance(record, dict) or not isinstance(record.get("caption"), str):
            raise ValueError(f'{path}: record {number}: expected {{"image_id", "caption"}}: add what is missing')
        image = record.get("image_id", record.get("image_hash"))
        if isinstance(image, bool) or not isinstance(image, str | int):
            raise ValueError(f'{path}: record {number}: "image_id" must be a number or a string: add it')
        found.append((str(image), record.get("style", record.get("personality")), record["caption"]))
    return found


def match(
    predictions: Sequence[tuple[str, str | None, str]], asked: Sequence[Sample], source: str, references: str
) -> list[str]:
    """The caption for each of `asked`.

    A prediction without a style is for the one style that its image has. Raises ValueError for predictions that are
    missing, left over, said twice, or of an unclear style.
    """
    styles: dict[str, list[str]] = {}
    for sample in asked:
        styles.setdefault(sample.image_id, []).append(sample.style)
    captions: dict[tuple[str, str], str] = {}
    for image, style, caption in predictions:
        there = styles.get(image, [])
        if style is None and len(there) > 1:
            raise ValueError(
                f'{source}: image {image} has references in {len(there)} styles: give each prediction its "style"'
            )
        key = (image, style if style is not None else there[0] if there else "")
        if key in captions:
            raise ValueError(f"{source}: {_name(key)} has two predictions: keep one")
        captions[key] = caption
    wanted = {(sample.image_id, sample.style) for sample in asked}
    for names, lack, where in (
        (sorted(wanted - captions.keys()), "no prediction for", source),
        (sorted(captions.keys() - wanted), "no references for", references),
    ):
        if names:
            more = f" and {len(names) - _NAMED} more" if names[_NAMED:] else ""
            some = ", ".join(map(_name, names[:_NAMED])) + more
            raise ValueError(f"{where}: {lack} {some}: both files must be of the same images and styles")
    return [captions[sample.image_id, sample.style] for sample in asked]


def _name(key: tuple[str, str]) -> str:
    return f"{key[0]} ({key[1]})" if key[1] else key[0]


def _read(path: str, split: str, image_dir: str) -> Split:
    """A split in whichever of the three forms the file has."""
    try:
        with open(path, encoding="utf-8-sig") as stream:
            content = json.load(stream)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): repair it") from error
    form = "personality" if isinstance(content, list) else "coco" if "annotations" in content else "karpathy"
    return read_split(split, format=form, annotations=path, image_dir=image_dir)
