"""All metrics of a list of captions, overall and per style, on pycocoevalcap's scale (CIDEr to 10, others to 1)."""

import logging
import re
import shutil
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from data.samples import Sample
from evaluation import java
from evaluation.plausibility import warn_of_unspaced, warn_of_zeros
from metrics.bleu import BleuStatistics, bleu, bleu_statistics
from metrics.cider import DocumentFrequency, cider_of
from metrics.ngrams import MAX_ORDER
from metrics.overlap import NgramOverlap
from metrics.rouge import rouge_l
from metrics.tokenizers import Tokenize, tokenizer_of

logger = logging.getLogger("stylecap")

BLEU = tuple(f"BLEU-{order}" for order in range(1, MAX_ORDER + 1))
METRICS = (*BLEU, "ROUGE-L", "CIDEr", "CIDEr-D", "METEOR", "SPICE")
SCORERS = ("stylecap", "pycocoevalcap")
_NAMED = 5  # how many ids an error names


@dataclass(frozen=True, slots=True)
class CaptionScores:
    """Scores of a list of captions.

    Attributes:
        scores: metric -> score of all captions together; None where it was not asked for or cannot be had.
        each: metric -> score of each caption, in order; only metrics that have a score.
        bleu_statistics: what each caption contributes to BLEU; BLEU of any subset is `bleu` of its statistics.
        notes: for each metric that cannot be had, a line that says why and what to do.
    """

    scores: dict[str, float | None]
    each: dict[str, list[float]]
    bleu_statistics: list[BleuStatistics]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StyledScores:
    """Scores of all captions, and of those of each style (style -> scores, sorted by name)."""

    overall: CaptionScores
    styles: dict[str, CaptionScores] = field(default_factory=dict)

    def table(self) -> dict[str, dict[str, float | None]]:
        """Row name -> metric -> score; the first row is "all"."""
        return {"all": self.overall.scores} | {style: scores.scores for style, scores in self.styles.items()}

    def to_dict(self, n_images: int) -> dict[str, Any]:
        """As `metrics.json` holds them: metric -> score, `n_images`, `n_captions`, `per_style`."""
        return {
            **self.overall.scores,
            "n_images": n_images,
            "n_captions": len(self.overall.bleu_statistics),
            "per_style": {style: scores.scores for style, scores in self.styles.items()},
        }


def score_captions(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    scorer: str,
    meteor: bool,
    spice: bool,
    java_timeout_s: float,
    java_memory_gb: int = 8,
    java_cache: java.Cache | None = None,
    frequency: DocumentFrequency | None = None,
    ids: Sequence[Hashable] | None = None,
    tokenizer: str = "ptb",
) -> CaptionScores:
    """Score raw captions against the raw references of their images.

    Args:
        predictions: one caption an image (and style).
        references: its references.
        scorer: "stylecap", in Python, or "pycocoevalcap", the original tool chain with its Java tokenizer.
        meteor, spice: whether to ask Java for them.
        java_timeout_s, java_memory_gb: what each of the two may take.
        java_cache: what they said of a caption and its references before; what they say now is added.
        frequency: document frequencies for CIDEr-D; without it, those of `references`, as for CIDEr.
        ids: names of the captions in errors; their positions without it.
        tokenizer: a key of `metrics.tokenizers.TOKENIZERS`; METEOR and SPICE know English only, and "ptb".

    Raises:
        ValueError: no predictions, a prediction that is missing or an image without references; unknown scorer; no
            JVM for scorer "pycocoevalcap".
    """
    return score_styles(
        predictions,
        references,
        None,
        scorer=scorer,
        meteor=meteor,
        spice=spice,
        java_timeout_s=java_timeout_s,
        java_memory_gb=java_memory_gb,
        java_cache=java_cache,
        frequency=frequency,
        ids=ids,
        tokenizer=tokenizer,
    ).overall


def score_styles(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    styles: Sequence[str] | None,
    *,
    scorer: str,
    meteor: bool,
    spice: bool,
    java_timeout_s: float,
    java_memory_gb: int = 8,
    java_cache: java.Cache | None = None,
    frequency: DocumentFrequency | None = None,
    ids: Sequence[Hashable] | None = None,
    tokenizer: str = "ptb",
) -> StyledScores:
    """As `score_captions`, and the same for the captions of each style alone.

    A style's CIDEr takes document frequencies from that style's references, as a run over them alone does. Java is
    started once for all of it.
    """
    check_scorer(scorer, tokenizer)
    _check(predictions, references, styles, ids)
    warn_of_unspaced(references, tokenizer)
    rows_of: dict[str, list[int]] = {}
    for row, style in enumerate(styles or ()):
        rows_of.setdefault(style, []).append(row)
    rows_of = dict(sorted(rows_of.items()))
    tokenize = tokenizer_of(tokenizer) if scorer == "stylecap" else _java_tokenize
    candidates, tokenized = _tokenize(tokenize, predictions, references)
    english = tokenizer == "ptb"
    asked = {"METEOR": java.meteor if meteor and english else None, "SPICE": java.spice if spice and english else None}
    limits = java.Limits(java_timeout_s, java_memory_gb)
    by_java = {
        name: score(candidates, tokenized, rows_of, limits, java_cache) if score else java.JavaScores()
        for name, score in asked.items()
    }
    core = _core if scorer == "stylecap" else _original_core
    notes = tuple(scores.why_not for scores in by_java.values() if scores.why_not)
    overall = core(candidates, tokenized, frequency)
    found = {}
    for style, rows in rows_of.items():
        part = [candidates[row] for row in rows], [tokenized[row] for row in rows]
        if scorer == "stylecap":  # the tokens of a run over these captions alone; see ptb_tokenize
            part = _tokenize(tokenize, [predictions[row] for row in rows], [references[row] for row in rows])
        found[style] = _with_java(core(*part, frequency), by_java, style, rows, notes)
    warn_of_zeros(overall.scores, predictions)
    return StyledScores(_with_java(overall, by_java, None, range(len(predictions)), notes), found)


def check_scorer(scorer: str, tokenizer: str) -> None:
    """ValueError for an unknown scorer or tokenizer, for two that do not go together, and for what is not installed."""
    if scorer not in SCORERS:
        raise ValueError(f'unknown scorer "{scorer}"; it is one of {", ".join(SCORERS)}')
    tokenizer_of(tokenizer)
    if tokenizer != "ptb" and scorer != "stylecap":
        raise ValueError(f'scorer "{scorer}" brings its own tokenizer: use scorer "stylecap" with "{tokenizer}"')
    if scorer == "pycocoevalcap" and shutil.which("java") is None:
        raise ValueError(f'scorer "pycocoevalcap" needs Java; {java.GET_JAVA}, or use scorer "stylecap"')


def _check(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    styles: Sequence[str] | None,
    ids: Sequence[Hashable] | None,
) -> None:
    """Say what cannot be scored, naming the first few."""
    if not predictions:
        raise ValueError("there are no predictions to score")
    for name, others in (("references", references), ("styles", styles), ("ids", ids)):
        if others is not None and len(others) != len(predictions):
            raise ValueError(f"{len(predictions)} predictions but {len(others)} {name}; there must be as many")
    names = ids if ids is not None else range(len(predictions))
    missing = [name for name, caption in zip(names, predictions, strict=True) if not isinstance(caption, str)]
    if missing:
        raise ValueError(f"no prediction for {_some(missing)}; caption these images too, or leave them out")
    bare = [name for name, of_image in zip(names, references, strict=True) if not any(one.strip() for one in of_image)]
    if bare:
        raise ValueError(f"no references for {_some(bare)}; give each image at least one, or leave it out")
    empty = [name for name, caption in zip(names, predictions, strict=True) if not caption.strip()]
    if empty:
        logger.warning("The prediction is empty, and scores 0, for %s", _some(empty))


def _some(names: Sequence[Hashable]) -> str:
    """The first few names: `a, b and 7 more`."""
    more = len(names) - _NAMED
    return ", ".join(str(name) for name in names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _tokenize(
    tokenize: Tokenize, predictions: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[list[str], list[list[str]]]:
    flat = iter(tokenize([reference for of_image in references for reference in of_image]))
    return tokenize(list(predictions)), [[next(flat) for _ in of_image] for of_image in references]


def _core(
    candidates: Sequence[str], references: Sequence[Sequence[str]], frequency: DocumentFrequency | None
) -> CaptionScores:
    """BLEU, ROUGE-L, CIDEr and CIDEr-D of tokenized captions."""
    overlap = NgramOverlap(candidates, references)
    statistics = bleu_statistics(overlap)
    each = dict(zip(BLEU, map(list, zip(*(bleu([one]) for one in statistics), strict=True)), strict=True))
    each["ROUGE-L"] = list(map(rouge_l, candidates, references))
    each["CIDEr"] = cider_of(overlap)
    each["CIDEr-D"] = cider_of(overlap, frequency) if frequency else each["CIDEr"]
    scores: dict[str, float | None] = dict(zip(BLEU, bleu(statistics), strict=True))
    scores |= {name: sum(each[name]) / len(candidates) for name in ("ROUGE-L", "CIDEr", "CIDEr-D")}
    return CaptionScores(scores, each, statistics)


def _original_core(
    candidates: Sequence[str], references: Sequence[Sequence[str]], frequency: DocumentFrequency | None
) -> CaptionScores:
    """The same by pycocoevalcap's own classes."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    gts, res = dict(enumerate(map(list, references))), {row: [one] for row, one in enumerate(candidates)}
    scores: dict[str, float | None] = {}
    each: dict[str, list[float]] = {}
    together, apart = Bleu(MAX_ORDER).compute_score(gts, res, verbose=0)
    for name, score, of_each in zip(BLEU, together, apart, strict=True):
        scores[name], each[name] = float(score), [float(one) for one in of_each]
    for name, metric in (("ROUGE-L", Rouge()), ("CIDEr", Cider())):
        score, of_each = metric.compute_score(gts, res)
        scores[name], each[name] = float(score), [float(one) for one in of_each]
    overlap = NgramOverlap(candidates, references)
    each["CIDEr-D"] = cider_of(overlap, frequency) if frequency else each["CIDEr"]
    scores["CIDEr-D"] = sum(each["CIDEr-D"]) / len(candidates)
    return CaptionScores(scores, each, bleu_statistics(overlap))


def _java_tokenize(captions: list[str]) -> list[str]:
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    # A line break of any kind would give every later caption the tokens of another one.
    lines = [re.sub(r"[\n\r\v\f\u2028\u2029]", " ", caption) for caption in captions]
    tokens = PTBTokenizer().tokenize({row: [{"caption": line}] for row, line in enumerate(lines)})
    return [tokens[row][0] if row in tokens else "" for row in range(len(lines))]


def _with_java(
    core: CaptionScores,
    by_java: Mapping[str, java.JavaScores],
    style: str | None,
    rows: Sequence[int],
    notes: tuple[str, ...],
) -> CaptionScores:
    """Add METEOR and SPICE of all captions (style None) or of one style's rows."""
    scores, each = dict(core.scores), dict(core.each)
    for name, found in by_java.items():
        scores[name] = found.overall if style is None else found.subsets.get(style)
        if found.each is not None:
            each[name] = [found.each[row] for row in rows]
    return CaptionScores(scores, each, core.bleu_statistics, notes)


# --- of samples -------------------------------------------------------------------------------------------------------


def evaluate_captions(
    samples: Sequence[Sample],
    captions: Sequence[str],
    *,
    scorer: str,
    meteor: bool,
    spice: bool,
    java_timeout_s: float,
    document_frequency: DocumentFrequency | None = None,
    tokenizer: str = "ptb",
) -> dict[str, Any]:
    """Scores of `captions`, one for each of `samples`, against the samples' references.

    The other arguments are those of `score_styles`. Returns metric -> score (None: not to be
    had, and a line of the log says why), `n_images`, `n_captions`, and `per_style`: style -> metric -> score.
    """
    settings = {"scorer": scorer, "meteor": meteor, "spice": spice, "java_timeout_s": java_timeout_s}
    found = score_samples(samples, captions, frequency=document_frequency, tokenizer=tokenizer, **settings)
    return found.to_dict(len({sample.image_id for sample in samples}))


def score_samples(samples: Sequence[Sample], captions: Sequence[str], **settings: Any) -> StyledScores:
    """`score_styles` of one caption for each of `samples`; `settings` are its keywords."""
    return score_styles(
        captions,
        [sample.references for sample in samples],
        [sample.style for sample in samples],
        ids=[f"{sample.image_id} ({sample.style})" for sample in samples],
        **settings,
    )
