"""Scores that need something of the user's: a CLIP model, annotated objects, or a metric of a file or a package.

Each gives a number for each caption, None where it has none; what is no mean of those is said beside them.
"""

import importlib.util
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from data.reading import load_json
from data.samples import Sample
from metrics.chair import ObjectNames, chair, hallucinations
from metrics.clip_score import PREFIX, clip_score, ref_clip_score
from metrics.tokenizers import tokenizer_of
from models.clip import Clip

GROUP = "stylecap.metrics"
#: (captions, references of each, images' ids, styles) -> a number for each caption.
Metric = Callable[[Sequence[str], Sequence[Sequence[str]], Sequence[str], Sequence[str]], Sequence[float | None]]


@dataclass(frozen=True)
class ExtraScores:
    """`each`: score -> [N]; `overall`: score -> a number that is no mean; `made_with`: score -> for its signature."""

    each: dict[str, list[float | None]] = field(default_factory=dict)
    overall: dict[str, float] = field(default_factory=dict)
    made_with: dict[str, dict[str, str]] = field(default_factory=dict)


class Extras:
    """What is asked for, opened before captions are written: ValueError for what is not there.

    Args:
        clip: folder of a CLIP model.
        objects: COCO's instances JSON.
        metrics: the name of a score -> an entry point of the group `stylecap.metrics`, or `file:PATH.py:FUNCTION`.
        tokenizer: a key of `metrics.tokenizers.TOKENIZERS`, for objects' names.
    """

    def __init__(
        self,
        *,
        clip: str | None = None,
        objects: str | None = None,
        metrics: Mapping[str, str] | None = None,
        tokenizer: str = "ptb",
    ) -> None:
        self.clip = Clip.open(clip) if clip else None
        self.objects = Objects.read(objects) if objects else None
        self.metrics = {name: metric_of(source) for name, source in (metrics or {}).items()}
        self.tokenizer = tokenizer

    def scores(self, samples: Sequence[Sample], captions: Sequence[str]) -> ExtraScores:
        """Of one caption for each of `samples`."""
        found = ExtraScores()
        if self.clip is not None:
            plain, with_references = clip_scores(self.clip, samples, captions)
            found.each.update({"CLIPScore": plain, "RefCLIPScore": with_references})
            made = {"clip": self.clip.name}
            found.made_with.update({"CLIPScore": made, "RefCLIPScore": made})
        if self.objects is not None:
            self._add_chair(found, self.objects, samples, captions)
        for name, metric in self.metrics.items():
            found.each[name] = _checked(name, metric, samples, captions)
        return found

    def _add_chair(
        self, found: ExtraScores, objects: "Objects", samples: Sequence[Sample], captions: Sequence[str]
    ) -> None:
        known = [row for row, sample in enumerate(samples) if objects.of(sample.image_id, sample.image) is not None]
        if not known:
            raise ValueError(
                f"eval.objects: {objects.file} annotates none of the images, of which {samples[0].image_id} is one: "
                "its images' id or file_name must be theirs"
            )
        tokenize = tokenizer_of(self.tokenizer)
        there = [objects.of(samples[row].image_id, samples[row].image) or set() for row in known]
        references = [tokenize(list(samples[row].references)) for row in known]
        each = hallucinations(tokenize([captions[row] for row in known]), references, there, objects.names)
        values: list[float | None] = [None] * len(samples)
        for row, one in zip(known, each, strict=True):
            values[row] = float(bool(one.absent))
        found.each["CHAIRs"] = values
        found.overall["CHAIRi"] = chair(each)[0]
        found.made_with["CHAIRs"] = found.made_with["CHAIRi"] = {"objects": Path(objects.file).name}


@dataclass(frozen=True)
class Objects:
    """Annotated objects: `file`, how objects are called, and image (id, file name, its stem) -> its objects."""

    file: str
    names: ObjectNames
    by_image: dict[str, set[str]]

    @classmethod
    def read(cls, file: str) -> "Objects":
        """COCO's instances form; a category may have `synonyms`, as LVIS has. ValueError for another file."""
        try:
            content = load_json(file)
            names = {one["id"]: str(one["name"]) for one in content["categories"]}
            called = {str(one["name"]): [str(one["name"]), *one.get("synonyms", ())] for one in content["categories"]}
            of_id: dict[Any, set[str]] = defaultdict(set)
            for one in content["annotations"]:
                of_id[one["image_id"]].add(names[one["category_id"]])
            by_image: dict[str, set[str]] = {}
            for one in content["images"]:
                file_name = str(one.get("file_name", ""))
                for key in (str(one["id"]), file_name, Path(file_name).stem):
                    by_image[key] = of_id.get(one["id"], set())
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise ValueError(
                f"eval.objects: {file} is no instances file of COCO ({type(error).__name__}: {error}): it must be an "
                "object of images, annotations and categories"
            ) from error
        return cls(file, ObjectNames(called), by_image)

    def of(self, image_id: str, path: str) -> set[str] | None:
        """The objects of an image; None where it is not annotated."""
        for key in (image_id, Path(path).name, Path(path).stem):
            if key and key in self.by_image:
                return self.by_image[key]
        return None


def clip_scores(
    clip: Clip, samples: Sequence[Sample], captions: Sequence[str]
) -> tuple[list[float | None], list[float | None]]:
    """CLIPScore and RefCLIPScore of each caption; None where its picture cannot be read."""
    images = clip.images([sample.image for sample in samples])
    written = clip.texts([PREFIX + caption for caption in captions])
    texts = [PREFIX + reference for sample in samples for reference in sample.references]
    references = iter(clip.texts(texts)) if texts else iter(())
    plain: list[float | None] = []
    both: list[float | None] = []
    for sample, caption in zip(samples, written, strict=True):
        own = [next(references) for _ in sample.references]
        image = images.get(sample.image)
        score = clip_score(caption, image) if image is not None else None
        plain.append(score)
        both.append(ref_clip_score(score, caption, own) if score is not None and own else None)
    return plain, both


def metric_of(source: str) -> Metric:
    """A metric of a package, or of a file that you trust, for it is run. ValueError for another name."""
    if source.startswith("file:"):
        path, _, function = source.removeprefix("file:").rpartition(":")
        spec = importlib.util.spec_from_file_location(f"stylecap_metric_{Path(path).stem}", path)
        if spec is None or spec.loader is None or not Path(path).is_file():
            raise ValueError(f"eval.metrics: {source} must be file:PATH.py:FUNCTION, of a file that is there")
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
            found: Metric = getattr(module, function)
        except Exception as error:  # whatever the user's code raises
            raise ValueError(f"eval.metrics: {source} cannot be loaded: {type(error).__name__}: {error}") from error
        return found
    points = {point.name: point for point in entry_points(group=GROUP)}
    if source not in points:
        raise ValueError(
            f"eval.metrics: no installed package has a metric {source}; there are "
            f"{', '.join(sorted(points)) or 'none'}, and file:PATH.py:FUNCTION"
        )
    try:
        loaded: Metric = points[source].load()
    except Exception as error:  # another package's import raises what it likes
        raise ValueError(f"eval.metrics: {source} cannot be loaded: {error}") from error
    return loaded


def _checked(name: str, metric: Metric, samples: Sequence[Sample], captions: Sequence[str]) -> list[float | None]:
    values = metric(
        list(captions),
        [list(sample.references) for sample in samples],
        [sample.image_id for sample in samples],
        [sample.style for sample in samples],
    )
    try:
        found = [None if value is None else float(value) for value in values]
    except (TypeError, ValueError) as error:
        raise ValueError(f"eval.metrics: {name} gave no list of numbers ({error})") from error
    if len(found) != len(captions):
        raise ValueError(f"eval.metrics: {name} gave {len(found)} numbers for {len(captions)} captions")
    return found
