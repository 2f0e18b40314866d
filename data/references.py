"""Captions to score against, in whichever form their file has. No picture is looked at, and none need be named.

- what `data.readers` reads: Personality-Captions, COCO, Karpathy;
- COCO without `images`, or without their `file_name`, as COCO's own tools take it;
- a list of `{image_id, caption, style?}`, as JSON or with one object a line;
- `{image id: [captions]}`, as pycocoevalcap takes them.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from data.names import canonical_style, identifier
from data.readers import FORMATS, Source, form_of
from data.reading import parse_json, read_text
from data.samples import Row, Split

NO_STYLE = "Factual"  # of captions whose file knows no styles
_FORMS = (
    "Personality-Captions, COCO or Karpathy JSON, a list (or lines) of {image_id, caption}, or {image id: [captions]}"
)


def read_references(path: str, *, split: str, image_dir: str, styles: Sequence[str] = ()) -> Split:
    """The captions of a file, told apart by image and style.

    `split` selects the records of a Karpathy file. `image_dir` completes the names of pictures, for reports. `styles`
    are names that are known already: the same styles go by them here.

    Raises ValueError, naming file and record, for a file that cannot be read, has another form or no caption.
    """
    content = read_records(path)
    rows = list(_rows(content, Source(path, split, ".jpg", NO_STYLE)))
    known = canonical_style(styles)
    listed = sorted({known(row.style) for row in rows})
    canonical = canonical_style([*styles, *(style for style in listed if style not in styles)])
    placed = (row._replace(image=os.path.join(image_dir, row.image), style=canonical(row.style)) for row in rows)
    try:
        return Split(split, listed, placed)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_records(path: str) -> Any:
    """What a file of JSON, or of one JSON value a line, holds. ValueError, naming it, for any other."""
    try:
        text = read_text(path)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): repair it") from error
    try:
        return parse_json(text)
    except json.JSONDecodeError as error:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) > 1 and error.msg == "Extra data":
            return [_line(line, number, path) for number, line in enumerate(lines, start=1)]
        raise ValueError(f"{path} is not JSON ({error}): repair it") from error
    except ValueError as error:
        raise ValueError(f"{path} cannot be read ({error}): repair it") from error


def _line(line: str, number: int, path: str) -> Any:
    try:
        return parse_json(line)
    except ValueError as error:
        raise ValueError(f"{path}: line {number} is not JSON ({error}): repair it") from error


def _rows(content: Any, source: Source) -> Iterable[Row]:
    form = form_of(content)
    if form == "coco":
        return _plain(content["annotations"], source, "annotations, ", _files(content.get("images"), source))
    if form is not None:
        return FORMATS[form](content, source)
    if isinstance(content, list):
        return _plain(content, source)
    if isinstance(content, dict):
        return _by_image(content, source)
    raise ValueError(f"{source.file} holds {json.dumps(content)[:60]}: give {_FORMS}")


def _files(images: Any, source: Source) -> dict[str, str]:
    """Image id -> file name, as far as a COCO file says it. ValueError for an id that means two files."""
    files: dict[str, str] = {}
    for index, record in enumerate(images if isinstance(images, list) else ()):
        name = record.get("file_name") if isinstance(record, dict) else None
        image_id = identifier(record.get("id")) if isinstance(record, dict) else None
        if image_id is None or not isinstance(name, str):
            continue  # nothing that is scored depends on it
        if files.setdefault(image_id, name) != name:
            raise ValueError(
                f"{source.file}: images, record {index}: image id {image_id} means both {files[image_id]} and {name}: "
                "make ids unique"
            )
    return files


def _plain(records: list[Any], source: Source, where: str = "", files: dict[str, str] | None = None) -> Iterator[Row]:
    """Rows of a list of `{image_id, caption, style?}`."""
    for index, record in enumerate(records):
        image_id, style, caption = plain_record(record, f"{source.file}: {where}record {index}")
        yield Row((files or {}).get(image_id, image_id), image_id, style or source.default_style, caption)


def plain_record(record: Any, where: str) -> tuple[str, str | None, str]:
    """(image id, style or None, caption) of `{image_id, caption, style?}`. ValueError, beginning with `where`, for
    another form."""
    if not isinstance(record, dict) or not isinstance(record.get("caption"), str):
        raise ValueError(f'{where}: expected {{"image_id", "caption"}}: add what is missing')
    image_id = identifier(record.get("image_id", record.get("image_hash")))
    if image_id is None:
        raise ValueError(f'{where}: "image_id" must be a number or a string: add it')
    style = record.get("style", record.get("personality"))
    if style is not None and not isinstance(style, str):
        raise ValueError(f'{where}: "style" must be a string: correct it')
    return image_id, style, record["caption"]


def _by_image(content: dict[str, Any], source: Source) -> Iterator[Row]:
    """Rows of `{image id: [captions]}`; a caption is a text, or an object that has one."""
    for image_id, captions in content.items():
        for caption in captions if isinstance(captions, list) else [captions]:
            text = caption.get("caption") if isinstance(caption, dict) else caption
            if not isinstance(text, str):
                raise ValueError(f"{source.file}: image {image_id[:60]!r}: expected a list of captions: give {_FORMS}")
            yield Row(image_id.strip(), image_id.strip(), source.default_style, text)
