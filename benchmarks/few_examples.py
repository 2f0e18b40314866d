"""How far a style that a model has never seen is learnt from a description alone and from 5, 20 and 50 captions.

    python -m benchmarks.few_examples work_dir/demo [--images 100] [--draws 2]

The run is one of drawn scenes (`make demo`). A new style is a style of theirs, rewritten by a fixed rule: "oops" is
Humorous that never begins with "haha"; "mocking" begins as Humorous does and ends as Cynical does, which the model has
never written in one caption. Examples are drawn from val, a caption an image; captions of images of test are scored:
the share that follows the rule, and CIDEr against the rewritten references. Prints a line of JSON for each row.
"""

import argparse
import json
import random
import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from data.readers import read_split
from data.samples import Sample
from metrics.cider import cider
from models.ofa.added_style import with_style
from preprocessors import OfaStylishImageCaptioningPreprocessor
from tasks.captioning.captioner import Captioner
from tasks.captioning.learning_style import learn_style, start_of
from tasks.evaluating import find_checkpoint

COUNTS = (5, 20, 50)


@dataclass(frozen=True)
class Rule:
    """`rewrite` makes a caption of the new style of one of the style `of`; `follows` says whether one is."""

    of: str
    description: str
    rewrite: Callable[[str], str]
    follows: Callable[[str], bool]


RULES = {
    "oops": Rule(
        "Humorous",
        "oops silly giggling",
        lambda text: re.sub("^haha", "oops", text),
        lambda text: text.startswith("oops"),
    ),
    "mocking": Rule(
        "Cynical",
        "silly ugly",
        lambda text: re.sub("^((great|sure) )?just another (boring|useless)", "haha this silly", text),
        lambda text: text.startswith("haha this silly") and "that ugly" in text,
    ),
}


def captions(captioner: Captioner, vector: Tensor | None, style: str, samples: Sequence[Sample]) -> list[str]:
    """Of the samples' images in a new style with this vector, or in `style` as the model knows it."""
    if vector is not None:
        plain = captioner.preprocessor
        model, tokenizer, known = with_style(captioner.model, plain.tokenizer, plain.style_map, style, vector)
        reader = OfaStylishImageCaptioningPreprocessor(tokenizer=tokenizer, style_map=known, **plain.settings)
        captioner = Captioner(model, reader, defaults=captioner.defaults)
    return captioner.caption([replace(one, style=style) for one in samples], batch_size=100)


def row(rule: Rule, written: Sequence[str], samples: Sequence[Sample]) -> dict[str, float]:
    references = [[rule.rewrite(text) for text in one.references] for one in samples]
    return {
        "follows": round(100 * statistics.mean(map(rule.follows, written)), 1),
        "CIDEr": round(100 * statistics.mean(cider(written, references)), 1),
    }


def measure(captioner: Captioner, name: str, data: Path, images: int, draws: int) -> None:
    """Prints the rows of a rule: the style that it rewrites, the description alone, and each number of examples."""
    rule = RULES[name]
    val, test = (
        [
            one
            for one in read_split(
                split, format="personality", annotations=data / f"{split}.json", image_dir=data / "images"
            ).requests()
            if one.style == rule.of
        ]
        for split in ("val", "test")
    )
    shown = test[:images]
    start = start_of(captioner.model, captioner.preprocessor, rule.description)
    for what, vector in ((rule.of, None), (f"description: {rule.description}", start)):
        style = rule.of if vector is None else name
        found = row(rule, captions(captioner, vector, style, shown), shown)
        print(json.dumps({"style": name, "from": what, **found}), flush=True)
    for count in COUNTS:
        for draw in range(draws):
            drawn = [replace(one, caption=rule.rewrite(one.caption)) for one in random.Random(draw).sample(val, count)]
            started = time.monotonic()
            learnt = learn_style(captioner.model, captioner.preprocessor, drawn, start)
            seconds = round(time.monotonic() - started, 1)
            found = row(rule, captions(captioner, learnt.vector, name, shown), shown)
            print(json.dumps({"style": name, "from": count, "draw": draw, **found, "seconds": seconds}), flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, help="folder of a run of drawn scenes")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--draws", type=int, default=2, help="of the examples")
    given = parser.parse_args(argv)
    captioner = Captioner.from_directory(find_checkpoint(str(given.run), None), device="cpu")
    for name in RULES:
        measure(captioner, name, given.run / "demo_data", given.images, given.draws)


if __name__ == "__main__":
    main()
