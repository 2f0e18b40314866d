"""Scores of captions that any system wrote: COCO's results form against references of any form that can be read."""

import tempfile
from collections.abc import Sequence
from typing import Any

from data.files import write_json
from data.names import canonical_style
from data.references import plain_record, read_records, read_references
from data.run_folder import RunFolder
from data.samples import Sample
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
    tokenizer: str = "ptb",
) -> dict[str, Any]:
    """Score a file of predictions, and write what a run's folder has of an evaluation into the folder `output`.

    Args:
        references: captions in any form of `data.references`; it is told from the content.
        predictions: COCO's results form: [{"image_id", "caption"}, ...], with "style" where references have several.
        split: of a Karpathy file.
        train: training captions in the same forms, for style, fluency, copies and CIDEr-D's document frequencies.
        image_dir: where the pictures are that a report shows; scoring reads none.
        output: None keeps nothing.
        java: whether METEOR and SPICE are asked for.
        java_timeout_s, bootstrap, tokenizer: as in the configuration.

    Raises:
        ValueError: a file that cannot be read or has another form; ids that one side lacks, with the first few named.
    """
    asked = read_references(references, split=split, image_dir=image_dir).requests()
    captions = match(read_predictions(predictions), asked, predictions, references)
    styles = list(dict.fromkeys(sample.style for sample in asked))
    known = read_references(train, split="train", image_dir=image_dir, styles=styles) if train is not None else None
    with tempfile.TemporaryDirectory() as scratch:
        folder = RunFolder(output or scratch)
        judgement = judge(
            asked,
            captions,
            ended=None,
            train=known,
            frequency=table_of_split(folder, known, tokenizer) if known is not None else None,
            folder=folder,
            title=f"{predictions} against {references}",
            bootstrap=bootstrap,
            tokenizer=tokenizer,
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
    """(image id, style or None, caption) of each record, of JSON or one object a line. ValueError, naming file and
    record, for another form."""
    content = read_records(path)
    if not isinstance(content, list):
        raise ValueError(f'{path} must be a list of {{"image_id", "caption"}}, COCO\'s results form')
    return [plain_record(record, f"{path}: record {number}") for number, record in enumerate(content)]


def match(
    predictions: Sequence[tuple[str, str | None, str]], asked: Sequence[Sample], source: str, references: str
) -> list[str]:
    """The caption for each of `asked`.

    Styles are forgiven what they are forgiven everywhere: case and blanks. A prediction without a style is for the one
    style that its image has. Raises ValueError for predictions that are missing, left over, said twice, or of an
    unclear style.
    """
    styles: dict[str, list[str]] = {}
    for sample in asked:
        styles.setdefault(sample.image_id, []).append(sample.style)
    canonical = canonical_style(list(dict.fromkeys(sample.style for sample in asked)))
    captions: dict[tuple[str, str], str] = {}
    for image, style, caption in predictions:
        there = styles.get(image, [])
        if style is None and len(there) > 1:
            raise ValueError(
                f'{source}: image {image} has references in {len(there)} styles: give each prediction its "style"'
            )
        key = (image, canonical(style) if style is not None else there[0] if there else "")
        if key in captions:
            raise ValueError(f"{source}: {_name(key)} has two predictions: keep one")
        captions[key] = caption
    _check_same({(sample.image_id, sample.style) for sample in asked}, set(captions), source, references)
    return [captions[sample.image_id, sample.style] for sample in asked]


def _check_same(wanted: set[tuple[str, str]], given: set[tuple[str, str]], source: str, references: str) -> None:
    """ValueError that names what either side lacks."""
    lacking = [
        f"{where} has no {what} for {_some(sorted(names))}"
        for where, what, names in ((source, "prediction", wanted - given), (references, "references", given - wanted))
        if names
    ]
    if lacking:
        raise ValueError(f"{'; '.join(lacking)}: both files must be of the same images and styles")


def _some(names: Sequence[tuple[str, str]]) -> str:
    more = f" and {len(names) - _NAMED} more" if names[_NAMED:] else ""
    return ", ".join(map(_name, names[:_NAMED])) + more


def _name(key: tuple[str, str]) -> str:
    return f"{key[0]} ({key[1]})" if key[1] else key[0]
