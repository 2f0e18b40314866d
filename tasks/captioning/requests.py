"""What a captioner is asked for: requests beside those of a split, and whether the model can answer all of them."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from config import Config
from data.samples import Sample, Split


def in_many_styles(
    samples: Sequence[Sample], styles: Sequence[str], *, images: int, styles_each: int, seed: int
) -> list[Sample]:
    """Requests that show what the style changes, for data where no image is asked for in two: a few images, drawn by
    `seed`, each in a few styles of `styles`, drawn for it. Empty where an image has two already, or nothing is to draw.
    """
    first = {sample.image_id: sample for sample in reversed(samples)}
    number = min(styles_each, len(styles))
    if len(first) < len(samples) or images == 0 or number < 2:
        return []
    rng = random.Random(seed)
    drawn = rng.sample(sorted(first), min(images, len(first)))
    return [
        replace(first[image], style=style, caption="", references=())
        for image in drawn
        for style in rng.sample(sorted(styles), number)
    ]


def check_requests(config: Config, model: Any, preprocessor: Any, records: Mapping[str, Split]) -> None:
    """ValueError, before the first update, for what a later one or the validation would stumble over."""
    positions = model.config.max_position_embeddings
    for key, longest in (("eval.max_len_b", config.eval.max_len_b), ("scst.max_len_b", config.scst.max_len_b)):
        # A step more than the longest caption: the end token, and what sampling draws to see whether it ends.
        if longest + 2 > positions and (key.startswith("eval") or config.train.objective == "scst"):
            raise ValueError(f"{key} = {longest}, but the model has positions for {positions - 2} tokens: lower it")
    for name, split in records.items():
        for style in dict.fromkeys(request.style for request in split.requests()):
            prompt = preprocessor.builder.prompt.text(style)  # ValueError, with the nearest names, for an unknown one
            length = len(preprocessor.tokenizer(prompt)["input_ids"])
            if length > positions:
                raise ValueError(
                    f"the prompt of style {style[:40]!r} (split {name}) has {length} tokens, and the model has "
                    f"positions for {positions}: shorten the style's name or style.prompt"
                )
