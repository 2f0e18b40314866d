"""Evaluation: a split captioned, scored overall and per style, and written down. Controls go through the same code."""

import logging
import time
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config import Config
from data.samples import Sample, Split
from evaluation.caption_scores import StyledScores, score_styles
from metrics.cider import DocumentFrequency
from tasks.captioning.controls import CONTROLS, Control, constant_captions, in_next_style

if TYPE_CHECKING:
    from tasks.captioning.captioner import Caption

LOGGER = logging.getLogger("stylecap")


def evaluate_captions(
    samples: Sequence[Sample],
    captions: Sequence[str],
    *,
    scorer: str,
    meteor: bool,
    spice: bool,
    java_timeout_s: float,
    document_frequency: DocumentFrequency | None = None,
) -> dict[str, Any]:
    """Scores of `captions`, one for each of `samples`, against the samples' references.

    The other arguments are those of `evaluation.caption_scores.score_styles`. Returns metric -> score (None: not to be
    had, and a line of the log says why), `n_images`, `n_captions`, and `per_style`: style -> metric -> score.
    """
    settings = {"scorer": scorer, "meteor": meteor, "spice": spice, "java_timeout_s": java_timeout_s}
    found = score_samples(samples, captions, frequency=document_frequency, **settings)
    return found.to_dict(len({sample.image_id for sample in samples}))


def score_samples(samples: Sequence[Sample], captions: Sequence[str], **settings: Any) -> StyledScores:
    """`evaluation.caption_scores.score_styles` of one caption for each of `samples`; `settings` are its keywords."""
    return score_styles(
        captions,
        [sample.references for sample in samples],
        [sample.style for sample in samples],
        ids=[f"{sample.image_id} ({sample.style})" for sample in samples],
        **settings,
    )


def run_evaluation(
    config: Config, checkpoint: str | None = None, split: str | None = None, control: str | None = None
) -> dict[str, Any]:
    """Caption and score a split as `config` says, and write predictions and metrics into the run's folder.

    Args:
        checkpoint: directory, file or hub id; None is the run's best checkpoint, else its last.
        split: its name; None is `eval.split`.
        control: one of `tasks.captioning.controls.CONTROLS`, measured in place of the model as it is.

    Returns:
        What `metrics.json` holds: that of `evaluation.judging`, and `split`, `control`, `checkpoint`, `seconds`. Files
        of another split than `eval.split`, or of a control, have its name in theirs.

    Raises:
        ValueError: no checkpoint, an unknown control, a split that is empty or not configured, a broken image.
    """
    # These take seconds to import, and training imports this module for the function above.
    from evaluation.judging import judge
    from tasks.captioning.runs import find_checkpoint, open_split, read_annotations, write_json

    started = time.monotonic()
    name = split or config.eval.split
    chosen = _control(control)
    data = open_split(config, name)
    samples = data.requests()
    source = None if chosen == "constant" else find_checkpoint(config.work_dir, checkpoint)
    written, in_many_styles = _captions(config, data, samples, source, chosen)
    train = read_annotations(config, "train") if "train" in config.splits() else None
    keys = ("scorer", "meteor", "spice", "java_timeout_s", "java_memory_gb", "bootstrap")
    judgement = judge(
        samples,
        [caption.text for caption in written],
        ended=[caption.ended for caption in written],
        train=train,
        frequency=_training_frequency(config, train),
        folder=Path(config.work_dir),
        title=_title(name, chosen, source),
        in_many_styles=in_many_styles,
        **{key: getattr(config.eval, key) for key in keys},
    )
    of_all = {key: value for key, value in judgement.metrics.items() if not isinstance(value, dict)}
    report = {
        **of_all,
        "split": name,
        "control": chosen,
        "checkpoint": str(source) if source else None,
        "seconds": round(time.monotonic() - started, 1),
        **judgement.metrics,
    }
    suffix = "".join(f".{part}" for part in (name if name != config.eval.split else None, chosen) if part)
    folder = Path(config.work_dir)
    write_json(folder / f"predictions{suffix}.json", judgement.predictions)
    write_json(folder / f"metrics{suffix}.json", report)
    return report


def _control(name: str | None) -> Control | None:
    for control in CONTROLS:
        if name == control:
            return control
    if name is None:
        return None
    near = get_close_matches(name, CONTROLS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(CONTROLS)}"
    raise ValueError(f"unknown control {name!r}: {hint}")


def _captions(
    config: Config, data: Split, samples: Sequence[Sample], source: Path | None, control: Control | None
) -> tuple[list["Caption"], list[tuple[str, str]]]:
    """A caption for each request; and where no image is asked for in two styles, (image, caption) of some that are."""
    from metrics.style import in_many_styles
    from tasks.captioning.captioner import Caption
    from tasks.captioning.runs import open_captioner, read_annotations, search_settings

    if source is None:
        constant = constant_captions(read_annotations(config, "train"), samples, seed=config.seed)
        LOGGER.info("constant captions: %s", constant)
        return [Caption(constant[sample.style], ended=True) for sample in samples], []
    captioner = open_captioner(config, source, data)
    asked = in_next_style(samples, data.styles) if control == "wrong-style" else samples
    settings: dict[str, Any] = {"blank_images": control == "blank-image", **search_settings(config)}
    images, styles_each = config.eval.sensitivity_images, config.eval.sensitivity_styles
    more = in_many_styles(samples, captioner.styles, images=images, styles_each=styles_each, seed=config.seed)
    texts = captioner.caption(more, **settings) if more else []
    return captioner.write(asked, **settings), [
        (sample.image_id, text) for sample, text in zip(more, texts, strict=True)
    ]


def _training_frequency(config: Config, train: Split | None) -> DocumentFrequency | None:
    """The document frequencies of the training captions, for CIDEr-D; None where there is no training split."""
    from rewards.document_frequency import table_of_split

    return table_of_split(config.work_dir, train) if train is not None else None


def _title(split: str, control: Control | None, source: Path | None) -> str:
    return f"{split}, {f'control {control}, ' if control else ''}{source or 'no model'}"
