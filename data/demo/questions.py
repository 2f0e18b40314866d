"""The embedded questions: about the drawn scenes, with region features, and sentences about two of them.

Pictures, splits and scenes are those of `data.demo.render` with the same number of images and seed, so that captions
and questions go together and no scene is in two splits.
"""

import json
import random
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from data.demo import VERSION, render, scenes, split_sizes
from data.demo.asking import TYPES, ask, sentences
from data.demo.manifest import read_manifest, write_file
from data.demo.regions import regions
from data.demo.scenes import Scene
from data.features.regions import Regions
from data.features.writer import new_store
from data.files import locked
from data.questions.records import Question, Questions

QUESTIONS_VERSION = 1  # raise it whenever wording or features change: folders of another version are made anew
PAIRS_A_SENTENCE = 4  # that share one number, as in NLVR2
STORE = "regions"
_MANIFEST = "questions.json"
_TRIES = 1000  # at finding two pictures that share something


def render_questions(
    directory: str | Path, *, images: int, seed: int, per_image: int = 4, pairs: int = 0, pictures: bool = True
) -> None:
    """Makes in `directory`: `questions_SPLIT.jsonl` (plain form) and the feature store `regions`; with `pairs`, so many
    for each picture, `pairs_SPLIT.json` (LXMERT's form of NLVR2); with `pictures`, all that `data.demo.render` makes.

    The result depends on the arguments only. If the folder already holds it nothing is done, and of several processes
    only one works. Raises ValueError for numbers out of range.
    """
    if per_image < 1 or pairs < 0:
        raise ValueError(f"{per_image} questions and {pairs} pairs a picture: ask at least one question")
    folder = Path(directory)
    if pictures:
        render(folder, images=images, seed=seed)
    manifest = {"version": QUESTIONS_VERSION, "images": images, "seed": seed, "per_image": per_image, "pairs": pairs}
    with locked(folder / ".questions.lock"):
        if read_manifest(folder / _MANIFEST) == manifest:
            return
        write_file(folder / _MANIFEST, json.dumps({"complete": False}))
        shutil.rmtree(folder / STORE, ignore_errors=True)
        for name, questions in drawn_questions(images, seed, per_image).items():
            write_file(folder / f"questions_{name}.jsonl", "".join(json.dumps(_plain(one)) + "\n" for one in questions))
        for name, questions in drawn_pairs(images, seed, pairs).items() if pairs else ():
            write_file(folder / f"pairs_{name}.json", json.dumps([_pair(one) for one in questions]))
        with new_store(folder / STORE, dtype="float32") as writer:
            for one in drawn_regions(images, seed):
                writer.add(one, one.image_id)
            writer.finish("drawn scenes", [{"images": images, "seed": seed}], None)
        write_file(folder / _MANIFEST, json.dumps(manifest))


def drawn_questions(images: int, seed: int, per_image: int = 4) -> dict[str, Questions]:
    """Split -> questions, `per_image` about each picture: of every type as many, no two alike."""
    found = {}
    for name, shown in _splits(images, seed).items():
        found[name] = Questions(
            name, (question for number, scene in shown for question in _about(scene, seed, number, per_image))
        )
    return found


def drawn_pairs(images: int, seed: int, pairs: int = 1) -> dict[str, Questions]:
    """Split -> sentences about two pictures ("True" where it holds of both), two for each pair of pictures: one that is
    true of both, one of the same sort that is true of either the left or the right one only.

    So neither the sentence nor the two pictures alone tell the answer. `pairs` are for each picture of the split; a
    split with too few pictures to share anything has fewer. `extra` has `uid`.
    """
    return {
        name: Questions(name, _sentences(name, seed, shown, pairs * len(shown), random.Random(f"pairs {name} {seed}")))
        for name, shown in _splits(images, seed).items()
    }


def drawn_regions(images: int, seed: int) -> Iterator[Regions]:
    """The region features of every picture, in order."""
    for shown in _splits(images, seed).values():
        for number, scene in shown:
            yield regions(image_id(seed, number), scene, seed, number)


def image_id(seed: int, number: int) -> str:
    """The name of a picture of `data.demo.render`, without suffix."""
    return blake2b(f"{VERSION} {seed} {number}".encode(), digest_size=8).hexdigest()


def _splits(images: int, seed: int) -> dict[str, list[tuple[int, Scene]]]:
    """Split -> (number, scene) of its pictures."""
    remaining = iter(enumerate(scenes(images, seed)))
    return {name: list(islice(remaining, size)) for name, size in split_sizes(images).items()}


def _about(scene: Scene, seed: int, number: int, count: int) -> Iterator[Question]:
    rng = random.Random(f"questions {seed} {number}")
    seen: set[str] = set()
    order = rng.sample(TYPES, len(TYPES))
    picture = image_id(seed, number)
    for k in range(count):
        asked = ask(scene, order[k % len(order)], rng)
        for _ in range(_TRIES):
            if asked.text not in seen:
                break
            asked = ask(scene, order[k % len(order)], rng)
        seen.add(asked.text)
        yield Question(
            f"{picture}-{k}",
            (picture,),
            asked.text,
            asked.answer,
            answer_type=asked.answer_type,
            question_type=asked.question_type,
        )


def _sentences(
    name: str, seed: int, shown: list[tuple[int, Scene]], count: int, rng: random.Random
) -> Iterator[Question]:
    """Two questions for each of up to `count` pairs; see `drawn_pairs`."""
    said = {number: sentences(scene) for number, scene in shown}
    saying: dict[str, list[int]] = defaultdict(list)
    for number, sorts in said.items():
        for sentence in chain.from_iterable(sorts):
            saying[sentence].append(number)
    times: Counter[str] = Counter()
    groups: dict[tuple[str, int], int] = {}
    for pair in range(count):
        drawn = _two(said, saying, pair, rng)
        if drawn is None:
            continue
        images = (image_id(seed, drawn.left), image_id(seed, drawn.right))
        for sentence, label in zip(drawn.sentences, ("True", "False"), strict=True):
            group = (sentence, times[sentence] // PAIRS_A_SENTENCE)
            times[sentence] += 1
            key = f"{name}-{groups.setdefault(group, len(groups))}-{pair}-0"
            yield Question(key, images, sentence, label, extra={"uid": f"{name}_{pair}_{label}"})


class _Two(NamedTuple):
    """Numbers of two pictures; a sentence true of both and one true of one of them."""

    left: int
    right: int
    sentences: tuple[str, str]


def _two(
    said: Mapping[int, tuple[list[str], ...]], saying: Mapping[str, list[int]], pair: int, rng: random.Random
) -> _Two | None:
    """A pair whose sentences are of the sort that its number says; None if none was found."""
    numbers = list(said)
    for _ in range(_TRIES):
        first = rng.choice(numbers)
        sort = pair % len(said[first])
        shared = rng.choice(said[first][sort])
        second = rng.choice(saying[shared])
        single = [sentence for sentence in said[first][sort] if sentence not in said[second][sort]]
        single += [sentence for sentence in said[second][sort] if sentence not in said[first][sort]]
        if single:  # so the two are different pictures
            left, right = rng.sample((first, second), 2)
            return _Two(left, right, (shared, rng.choice(single)))
    return None


def _plain(question: Question) -> dict[str, Any]:
    return {
        "question_id": question.question_id,
        "image": question.images[0],
        "question": question.text,
        "answer": question.answer,
        "answer_type": question.answer_type,
        "question_type": question.question_type,
    }


def _pair(question: Question) -> dict[str, Any]:
    return {
        "uid": question.extra["uid"],
        "identifier": question.question_id,
        "img0": question.images[0],
        "img1": question.images[1],
        "sent": question.text,
        "label": int(question.answer == "True"),
    }
