"""Captions on demand: for given pictures, for a file of requests, or for some pictures of a split."""

import json
import logging
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from config import Config
from data.files import write_json, write_text
from data.names import fold
from data.reading import load_json
from data.run_folder import RunFolder
from data.samples import Sample
from report.card import Card
from report.contact_sheet import html_sheet
from tasks.captioning.build import open_model
from tasks.captioning.captioner import Caption, Captioner
from tasks.captioning.opening import open_captioner, styles_to_ask
from tasks.captioning.records import open_split, search_settings
from tasks.captioning.requests import check_writable
from tasks.captioning.task import captioner_dtype
from tasks.evaluating import find_checkpoint

LOGGER = logging.getLogger("stylecap")
_KEYS = ("image", "image_hash", "style", "reference")


def run_inference(
    config: Config,
    *,
    images: Sequence[str] | None = None,
    styles: Sequence[str] | None = None,
    json_file: str | None = None,
    random_n: int | None = None,
    split: str | None = None,
    checkpoint: str | None = None,
    output: str | None = None,
    seed: int | None = None,
    adapters: Mapping[str, str] | None = None,
    use: str | None = None,
) -> list[dict[str, Any]]:
    """Write captions, and draw them with their pictures on a contact sheet.

    Exactly one source is given:

    - `images`: files, each in every one of `styles`; without `styles`, in every style that the model knows;
    - `json_file`: a list of `{"image" or "image_hash", "style", "reference"?}`;
    - `random_n`: so many pictures of `split` (None: `eval.split`), drawn by `seed` (None: the run's); without `styles`,
      each in the styles in which the split has references for it.

    `checkpoint` is as for `run_evaluation`, `adapters` and `use` as for `bulk.caption_with`; the files `inference.json`
    and `.html` go into the folder `output` (None: the run's), in place of former ones.

    Returns:
        The content of `inference.json`: `{"image", "style", "caption", "reference"?, "error"?}` in the order of the
        requests; `error` says why an image could not be read, and the caption then is empty.

    Raises:
        ValueError: an unknown style (with the nearest names), a broken request (with its index and key), no
            checkpoint; an image that is missing or broken, with `eval.strict` or where all are.
    """
    if sum(source is not None for source in (images, json_file, random_n)) != 1:
        raise ValueError("inference needs one source: --image, --json or --random")
    if json_file is not None and styles:
        raise ValueError("--style does not go with --json, whose requests name their styles; leave it out")
    samples: list[Sample] = []
    if json_file is not None:
        samples = read_requests(json_file, image_dir=_image_dir(config), image_suffix=_suffix(config))
    if random_n is not None:
        samples = _drawn(config, split or config.eval.split, random_n, config.seed if seed is None else seed)
        samples = _in_styles(samples, styles) if styles else samples
    source = find_checkpoint(config.work_dir, checkpoint)
    adapted = open_captioner(source, adapters) if adapters else None
    captioner = adapted or Captioner(*open_model(config, source, None), dtype=captioner_dtype(config))
    if images is not None:
        names = styles_to_ask(adapted, use, styles) or captioner.styles
        samples = [_sample(image, style) for image in images for style in names]
    elif use is not None:
        samples = [replace(one, style=name) for one in samples for name in styles_to_ask(adapted, use, [one.style])]
    samples = [replace(sample, style=captioner.canonical(sample.style)) for sample in samples]
    check_writable(Path(output or config.work_dir))
    captions = captioner.write(samples, strict=config.eval.strict, **search_settings(config))
    results = [_result(sample, caption) for sample, caption in zip(samples, captions, strict=True)]
    _write(Path(output or config.work_dir), results)
    return results


def read_requests(path: str, *, image_dir: str | None, image_suffix: str) -> list[Sample]:
    """Requests of a JSON file: a list of `{"image" or "image_hash", "style", "reference"?}`.

    `image` is a path; `image_hash` names the file `image_dir`/`image_hash``image_suffix`. Raises ValueError with file,
    index and key.
    """
    try:
        records = load_json(path)
    except OSError as error:
        raise ValueError(f"{path}: cannot read the requests ({error.strerror}): name an existing file") from error
    except ValueError as error:
        raise ValueError(f"{path}: broken JSON ({error}): repair it") from error
    if not isinstance(records, list) or not records:
        raise ValueError(f'{path}: expected a list of requests such as {{"image": "a.jpg", "style": "Sweet"}}')
    samples = []
    for index, record in enumerate(records):
        try:
            samples.append(_request(record, image_dir, image_suffix))
        except ValueError as error:
            raise ValueError(f"{path}: request {index}: {error}") from None
    return samples


def _request(record: Any, image_dir: str | None, image_suffix: str) -> Sample:
    if not isinstance(record, dict):
        raise ValueError(f"expected an object, found {json.dumps(record)[:60]}")
    for key, value in record.items():
        if key not in _KEYS:
            near = get_close_matches(key, _KEYS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(_KEYS)}"
            raise ValueError(f"unknown key {key!r}: {hint}")
        if not isinstance(value, str) or not value:
            raise ValueError(f"key {key!r} must be a string that is not empty, not {json.dumps(value)[:60]}")
    if "style" not in record:
        raise ValueError("key 'style' is missing: name the style to write in")
    if ("image" in record) == ("image_hash" in record):
        raise ValueError("exactly one of the keys 'image' and 'image_hash' must name the picture")
    references = (record["reference"],) if "reference" in record else ()
    if "image" in record:
        return _sample(record["image"], record["style"], references)
    if image_dir is None:
        raise ValueError("key 'image_hash' needs data.image_dir: set it, or give the path under 'image'")
    path = os.path.join(image_dir, record["image_hash"] + image_suffix)
    return _sample(path, record["style"], references)


def _sample(image: str, style: str, references: tuple[str, ...] = ()) -> Sample:
    return Sample(image, Path(image).stem, style, "", references)


def _image_dir(config: Config) -> str | None:
    return os.path.join(config.demo_dir(), "images") if config.data.format == "demo" else config.data.image_dir


def _suffix(config: Config) -> str:
    return ".jpg" if config.data.format == "demo" else config.data.image_suffix


def _drawn(config: Config, split: str, count: int, seed: int) -> list[Sample]:
    """All requests of `count` pictures of a split, which are drawn without repetition."""
    samples = open_split(config, split).requests()
    images = list(dict.fromkeys(sample.image for sample in samples))
    if count > len(images):
        LOGGER.warning("split %s has only %d images: all of them are captioned", split, len(images))
    chosen = random.Random(seed).sample(images, min(count, len(images)))
    by_image: dict[str, list[Sample]] = {image: [] for image in chosen}
    for sample in samples:
        if sample.image in by_image:
            by_image[sample.image].append(sample)
    return [sample for of_image in by_image.values() for sample in of_image]


def _in_styles(samples: Sequence[Sample], styles: Sequence[str]) -> list[Sample]:
    """The pictures of `samples` in each of `styles`, with the split's references where it has any in that style."""
    known = {(sample.image, fold(sample.style)): sample.references for sample in samples}
    images = dict.fromkeys(sample.image for sample in samples)
    return [_sample(image, style, known.get((image, fold(style)), ())) for image in images for style in styles]


def _result(sample: Sample, caption: Caption) -> dict[str, Any]:
    result = {"image": sample.image, "style": sample.style, "caption": caption.text}
    result |= {"reference": sample.references[0]} if sample.references else {}
    return result | ({"error": caption.fault} if caption.fault is not None else {})


def _write(folder: Path, results: Sequence[dict[str, Any]]) -> None:
    files = RunFolder(folder)
    write_json(files.captions, results)
    cards = [
        Card(
            None if "error" in one else one["image"],
            one["style"],
            one.get("error", one["caption"]),
            [one["reference"]] if "reference" in one else [],
        )
        for one in results
    ]
    images = len({one["image"] for one in results})
    write_text(files.contact_sheet, html_sheet(cards, f"Captions of {images} pictures"))
    LOGGER.info("captions and a contact sheet: %s, %s", files.captions, files.contact_sheet.name)
