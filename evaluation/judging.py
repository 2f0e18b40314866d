"""Everything that is said of a list of captions: content, style, fluency, diversity, and how sure all of it is."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.files import write_text
from data.reading import load_json
from data.run_folder import RunFolder
from data.samples import Sample, Split
from evaluation import sentence_judge as sentences
from evaluation.bootstrap import Contributions, flatten, intervals
from evaluation.caption_scores import METRICS, StyledScores, score_samples
from evaluation.extra_scores import Extras, ExtraScores
from evaluation.judgement import Judgement
from evaluation.signatures import digest, signatures
from evaluation.style_report import style_report, summary
from evaluation.table import render_table
from metrics.cider import DocumentFrequency
from rewards.document_frequency import captions_by_image

LOGGER = logging.getLogger("stylecap")


def judge(
    samples: Sequence[Sample],
    captions: Sequence[str],
    *,
    ended: Sequence[bool] | None,
    train: Split | None,
    frequency: DocumentFrequency | None,
    folder: RunFolder,
    title: str,
    bootstrap: int,
    in_many_styles: Sequence[tuple[str, str]] = (),
    scorer: str,
    meteor: bool,
    spice: bool,
    java_timeout_s: float,
    java_memory_gb: int,
    sentence_encoder: str | None = None,
    tokenizer: str = "ptb",
    extras: Extras | None = None,
) -> Judgement:
    """Judge one caption for each of `samples`, and log a table headed `title`.

    Args:
        ended: whether the model ended each caption itself; None where nobody knows.
        train: the training captions, for what depends on them; None leaves that out.
        frequency: document frequencies for CIDEr-D; without it, those of the references.
        folder: keeps the style evaluator and Java's scores.
        bootstrap: draws behind the intervals; 0 leaves them out.
        in_many_styles: as for `evaluation.style_report`.
        sentence_encoder: a folder, or "minilm"; None leaves out what needs one.
        extras: scores that need something of the user's.
        others: as for `evaluation.caption_scores.score_styles`.

    Returns:
        `metrics`: metric -> score (None: not to be had, and a line of the log says why), `n_images`, `n_captions`,
        `per_style`: style -> metric -> score, `SBERT-sim` where there is an encoder, those of
        `extras`, `signatures`: score -> what it was made with, that of `evaluation.style_report`,
        and `intervals`: metric -> [low, high]. `predictions`: COCO's results form, with the image's file, style,
        references, the caption's own `scores`, and `bleu`, what it contributes to BLEU.
    """
    cache = _read_cache(folder.java_scores) if meteor or spice else {}
    known = len(cache)
    found = score_samples(
        samples,
        captions,
        scorer=scorer,
        meteor=meteor,
        spice=spice,
        java_timeout_s=java_timeout_s,
        java_memory_gb=java_memory_gb,
        java_cache=cache,
        frequency=frequency,
        tokenizer=tokenizer,
    )
    if len(cache) > known:
        _write_cache(folder.java_scores, cache)
    encoder = sentences.sentence_encoder(sentence_encoder)
    style, named = style_report(samples, captions, ended, train, folder, in_many_styles, encoder, tokenizer)
    predictions = _predictions(samples, captions, found, named, ended)
    metrics = found.to_dict(len({sample.image_id for sample in samples})) | style
    if encoder is not None:
        _add(
            metrics, predictions, "SBERT-sim", sentences.similarity(encoder, captions, [s.references for s in samples])
        )
    more = extras.scores(samples, captions) if extras is not None else ExtraScores()
    for name, values in more.each.items():
        _add(metrics, predictions, name, values)
    metrics |= more.overall
    metrics["signatures"] = signatures(
        [name for name, value in metrics.items() if isinstance(value, float)],
        references=[sample.references for sample in samples],
        tokenizer=tokenizer,
        scorer=scorer,
        training=digest(captions_by_image(train)) if train is not None else None,
        others=more.made_with | ({"SBERT-sim": {"encoder": encoder.name}} if encoder is not None else {}),
    )
    metrics["intervals"] = intervals(Contributions.of(predictions, metrics), bootstrap) if bootstrap else {}
    LOGGER.info("%s; scores x 100\n%s", title, render_table(_rows(metrics)))
    LOGGER.info("%s", summary(metrics))
    return Judgement(metrics, predictions)


def _add(
    metrics: dict[str, Any], predictions: Sequence[dict[str, Any]], name: str, each: Sequence[float | None]
) -> None:
    """A score of all captions, of each style's and of each; those that are None do not count."""
    by_style: dict[str, list[float]] = {style: [] for style in metrics["per_style"]}
    for row, value in zip(predictions, each, strict=True):
        row["scores"][name] = _rounded(value)
        if value is not None:
            by_style.setdefault(row["style"], []).append(value)
    for style, values in by_style.items():
        metrics["per_style"].setdefault(style, {})[name] = sum(values) / len(values) if values else None
    known = [value for value in each if value is not None]
    metrics[name] = sum(known) / len(known) if known else None


def _rows(metrics: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """The rows of the table: all captions, the ends of their intervals, and each style."""
    rows = {"all": {name: metrics[name] for name in METRICS if name in metrics}}
    for row, end in (("  95% from", 0), ("  95% to", 1)):
        if metrics["intervals"]:
            rows[row] = {name: ends[end] for name, ends in metrics["intervals"].items()}
    return rows | metrics["per_style"]


def _predictions(
    samples: Sequence[Sample],
    captions: Sequence[str],
    found: StyledScores,
    named: Sequence[str | None],
    ended: Sequence[bool] | None,
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for row, (sample, caption) in enumerate(zip(samples, captions, strict=True)):
        scores: dict[str, float | None] = {name: values[row] for name, values in found.overall.each.items()}
        style = named[row]
        scores["style accuracy"] = float(style == sample.style) if style is not None else None
        scores["ended"] = float(ended[row]) if ended is not None else None
        rows.append(
            {
                "image_id": sample.image_id,
                "caption": caption,
                "style": sample.style,
                "references": list(sample.references),
                "image": sample.image,
                "named_style": style,
                "scores": {name: _rounded(value) for name, value in scores.items()},
                "bleu": flatten(found.overall.bleu_statistics[row]),
            }
        )
    return rows


def _rounded(value: float | None) -> float | None:
    """Nine digits: what more there is says nothing, and is most of the file."""
    return None if value is None else float(f"{value:.9g}")


def _read_cache(path: Path) -> dict[str, Any]:
    """What the file holds; nothing where it is missing or broken, for it only saves time."""
    try:
        content = load_json(path)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write_cache(path: Path, cache: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(cache))
