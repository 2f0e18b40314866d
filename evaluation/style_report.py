"""What evaluation says beside content: style, fluency, diversity, and whether captions end."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from data.names import canonical_style
from data.run_folder import RunFolder
from data.samples import Sample, Split
from metrics.diversity import diversity
from metrics.fluency import KneserNey
from metrics.style import accuracies, judgement_of_humans, sensitivity, style_cider
from metrics.style_classifier import StyleClassifier, normal_text
from metrics.tokenizers import Tokenize, tokenizer_of
from rewards.kept_classifier import style_evaluator


def style_report(
    samples: Sequence[Sample],
    texts: Sequence[str],
    ended: Sequence[bool] | None,
    train: Split | None,
    run: RunFolder,
    in_many_styles: Sequence[tuple[str, str]] = (),
    tokenizer: str = "ptb",
) -> tuple[dict[str, Any], list[str | None]]:
    """What is said of all captions, and the style that the evaluator names for each (None: it is not asked).

    Args:
        samples: what was asked for, with references.
        texts: a caption for each.
        ended: whether the model ended each; None where nobody knows.
        train: the training captions, which teach what a style is and what fluent is; None leaves these parts out.
        run: keeps the style evaluator.
        in_many_styles: (image, caption) of images captioned in several styles, where `samples` have none such.
        tokenizer: a key of `metrics.tokenizers.TOKENIZERS`.

    The first result holds
        `style`: as `metrics.style.accuracies`, with `evaluator` (how right it is about human captions), `sensitivity`
        and `style_cider`; `fluency`: `perplexity` and, of the references, `human_perplexity`; `diversity`: as
        `metrics.diversity`; `ended`: share of captions that the model ended itself. Parts that cannot be had are None.
    """
    images = [sample.image_id for sample in samples]
    tokenize = tokenizer_of(tokenizer)
    tokens = tokenize(list(texts))
    references = [tokenize(list(sample.references)) for sample in samples]
    # Read as the model writes: punctuation must not make human captions less fluent or a copy another text.
    normal = normal_text if tokenizer == "ptb" else partial(_one, tokenize)
    known = [normal(sample.caption) for sample in train] if train is not None else []
    written = [normal(text) for text in texts]
    evaluator = style_evaluator(run, train) if train is not None else None
    style: dict[str, Any] | None = None
    named: list[str | None] = [None] * len(texts)
    if evaluator is not None:
        style, named = _judged(evaluator, samples, texts)
    if style is not None:
        style["sensitivity"] = sensitivity(images, tokens) or sensitivity(
            [image for image, _ in in_many_styles], tokenize([text for _, text in in_many_styles])
        )
        style["style_cider"] = style_cider(images, tokens, references)
    report = {
        "style": style,
        "fluency": _fluency(samples, written, known, normal) if known else None,
        "diversity": diversity(written, known),
        "ended": sum(ended) / len(ended) if ended else None,
    }
    return report, named


def _judged(
    evaluator: StyleClassifier, samples: Sequence[Sample], texts: Sequence[str]
) -> tuple[dict[str, Any] | None, list[str | None]]:
    """Accuracies over the styles that the evaluator knows: one that no training caption has cannot be recognised."""
    canonical = canonical_style(evaluator.styles)  # training may write a style in another case
    known = {row: canonical(sample.style) for row, sample in enumerate(samples)}
    known = {row: style for row, style in known.items() if style in evaluator.styles}
    named: list[str | None] = [None] * len(texts)
    if not known:
        return None, named
    found = accuracies(evaluator, [texts[row] for row in known], list(known.values()))
    for (row, asked), style in zip(known.items(), found.pop("named"), strict=True):
        named[row] = samples[row].style if style == asked else style
    people = [replace(samples[row], style=style) for row, style in known.items()]
    return found | {"evaluator": judgement_of_humans(evaluator, people)}, named


def _one(tokenize: Tokenize, text: str) -> str:
    return tokenize([text])[0]


def _fluency(
    samples: Sequence[Sample], written: Sequence[str], known: Sequence[str], normal: Callable[[str], str]
) -> dict[str, float]:
    model = KneserNey(known)
    human = [normal(text) for sample in samples for text in sample.references]
    return {"perplexity": model.perplexity(written), "human_perplexity": model.perplexity(human)}


def summary(report: dict[str, Any]) -> str:
    """A report in one line, for the log."""
    parts = []
    if report["style"]:
        style, human = report["style"], report["style"]["evaluator"]
        right, miscalibrated = 100 * human["accuracy"], 100 * human["calibration_error"]
        parts.append(
            f"style accuracy {100 * style['accuracy']:.1f} (of human captions the evaluator names {right:.1f} rightly, "
            f"its confidence is off by {miscalibrated:.1f})"
        )
        if style["sensitivity"]:
            parts.append(f"distance between styles {style['sensitivity']['distance']:.2f}")
    if report["fluency"]:
        fluency = report["fluency"]
        parts.append(f"perplexity {fluency['perplexity']:.1f} (human {fluency['human_perplexity']:.1f})")
    parts.append(f"distinct-2 {report['diversity']['distinct-2']:.3f}")
    if report["ended"] is not None:
        parts.append(f"ended {100 * report['ended']:.1f}%")
    return ", ".join(parts)
