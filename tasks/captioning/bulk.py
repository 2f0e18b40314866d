"""Captions of any number of pictures into a file of JSON lines, which a run that was stopped goes on with.

A line is a picture: `{"image", "captions": {style: caption}}`, or `{"image", "error"}` for one that cannot be read.
"""

import contextlib
import glob
import io
import json
import os
import sys
import zipfile
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from config import Config
from data.images import decode
from data.pictures import SUFFIXES
from data.reading import open_file, parse_json, read_text
from preprocessors.images import ImageTransform
from tasks.captioning.build import open_model
from tasks.captioning.captioner import Captioner
from tasks.captioning.opening import open_captioner, styles_to_ask
from tasks.captioning.pictures import Asked, Written
from tasks.captioning.records import search_settings
from tasks.captioning.task import captioner_dtype
from tasks.evaluating import find_checkpoint

_THREADS = 4
_AHEAD = 3  # batches that are decoded while one is captioned
_MOST_BYTES = 2**28  # of a member of a zip file
_MARKS = frozenset("*?[")


@dataclass(frozen=True)
class Found:
    """A picture: a file, or a member of a zip file."""

    path: str
    member: str | None = None

    @property
    def name(self) -> str:
        return self.path if self.member is None else f"{self.path}/{self.member}"


class Writer(Protocol):
    """What writes captions: `Captioner`, or one with adapters (`adapted.AdapterCaptioner`)."""

    @property
    def styles(self) -> tuple[str, ...]: ...

    @property
    def transform(self) -> ImageTransform: ...

    def canonical(self, style: str) -> str: ...

    def check(self, style: str) -> None: ...

    def caption_pictures(self, asked: Sequence[Asked]) -> list[list[list[Written]]]: ...


def find_pictures(sources: Iterable[str]) -> Iterator[Found]:
    """The pictures that sources name: files, folders (with all below them), zip files, patterns such as "a/*.jpg", and
    lists, which are files .txt of one source a line. What a list names and is not there is a picture of its own, which
    then cannot be read.

    Raises ValueError for a source that is not there, and a folder or a pattern without pictures.
    """
    for source in sources:
        if Path(source).is_dir():
            yield from _some((Found(path) for path in _below(source)), source)
        elif source.lower().endswith(".txt"):
            yield from _listed(source)
        elif source.lower().endswith(".zip"):
            try:
                with zipfile.ZipFile(source) as file:
                    names = sorted(name for name in file.namelist() if name.lower().endswith(SUFFIXES))
            except (OSError, zipfile.BadZipFile) as error:
                raise ValueError(f"{source}: cannot read the zip file ({error}): get it again") from None
            yield from _some((Found(source, name) for name in names), source)
        elif not Path(source).exists() and _MARKS & set(source):
            yield from _some((Found(path) for path in sorted(glob.glob(source, recursive=True))), source)
        else:
            yield Found(source)  # one that is missing is a line of its own


def _listed(source: str) -> Iterator[Found]:
    """What the lines of a list name. ValueError for a list that cannot be read."""
    try:
        lines = [line.strip() for line in read_text(source).splitlines()]
    except (OSError, ValueError) as error:
        raise ValueError(f"{source}: cannot read the list ({error}): write one picture a line") from None
    for line in filter(None, lines):
        if line.lower().endswith(".txt"):
            yield Found(line)  # a list may name itself
            continue
        try:
            yield from find_pictures([line])
        except ValueError:
            yield Found(line)  # one line of a hundred thousand is no reason to caption nothing


def run_bulk(
    config: Config,
    *,
    sources: Sequence[str],
    out: str,
    styles: Sequence[str] | None,
    checkpoint: str | None = None,
    adapters: Mapping[str, str] | None = None,
    use: str | None = None,
) -> dict[str, int]:
    """`caption_all` with the model and the settings of a configuration; `checkpoint` is as for `run_evaluation`.

    `adapters` and `use` are as for `caption_with`.
    """
    source, settings = find_checkpoint(config.work_dir, checkpoint), search_settings(config)
    adapted = open_captioner(source, adapters, settings=settings) if adapters else None
    styles = styles_to_ask(adapted, use, styles) or None
    captioner: Writer | None = adapted
    if captioner is None:
        model, preprocessor = open_model(config, source, None)
        captioner = Captioner(model, preprocessor, dtype=captioner_dtype(config), defaults=settings)
    return caption_all(captioner, sources, Path(out), styles=styles, batch_size=config.eval.batch_size)


def caption_with(
    model: str,
    sources: Sequence[str],
    out: str,
    *,
    styles: Sequence[str] | None,
    batch_size: int,
    device: str = "auto",
    adapters: Mapping[str, str] | None = None,
    use: str | None = None,
) -> dict[str, int]:
    """`caption_all` with the model of a folder, and `adapters` of it by name: `use` is the one that `styles` are of,
    where they do not say it themselves (ADAPTER/STYLE). ValueError for one that is not among them."""
    adapted = open_captioner(model, adapters, device=device) if adapters else None
    styles = styles_to_ask(adapted, use, styles) or None
    captioner: Writer = adapted or Captioner.from_directory(model, device=device)
    return caption_all(captioner, sources, Path(out), styles=styles, batch_size=batch_size)


def caption_all(
    captioner: Writer, sources: Sequence[str], out: Path, *, styles: Sequence[str] | None, batch_size: int
) -> dict[str, int]:
    """Caption what is not in `out` yet, and add a line each to it.

    Args:
        styles: None: all that the model knows.
        batch_size: captions decoded at once.

    Returns:
        How many pictures were captioned, failed, and were there already.

    Raises:
        ValueError: an unknown style, sources that are not there, or a file `out` that is something else.
    """
    names = [captioner.canonical(style) for style in (captioner.styles if styles is None else styles)]
    for name in names:
        captioner.check(name)
    known = _known(out, names)
    found = list(dict.fromkeys(find_pictures(sources)))
    waiting = [one for one in found if one.name not in known]
    counts = {"captioned": 0, "failed": 0, "there_already": len(found) - len(waiting)}
    size = max(1, batch_size // len(names))
    batches = [waiting[start : start + size] for start in range(0, len(waiting), size)]
    out.parent.mkdir(parents=True, exist_ok=True)
    bar = tqdm(total=len(found), initial=len(found) - len(waiting), unit="img", desc="captions", file=sys.stderr)
    with open(out, "a", encoding="utf-8") as stream, bar:
        for batch, pictures in _decoded(captioner, batches):
            for line in _lines(captioner, batch, pictures, names):
                counts["failed" if "error" in line else "captioned"] += 1
                stream.write(json.dumps(line, ensure_ascii=False) + "\n")
            stream.flush()
            bar.update(len(batch))
    return counts


def _lines(
    captioner: Writer, batch: Sequence[Found], pictures: Sequence[np.ndarray | ValueError], styles: Sequence[str]
) -> list[dict[str, Any]]:
    whole = [picture for picture in pictures if isinstance(picture, np.ndarray)]
    written = iter(captioner.caption_pictures([(picture, styles) for picture in whole]) if whole else [])
    lines: list[dict[str, Any]] = []
    for found, picture in zip(batch, pictures, strict=True):
        if isinstance(picture, ValueError):
            lines.append({"image": found.name, "error": str(picture)})
        else:
            texts = [beams[0].text if beams else "" for beams in next(written)]
            lines.append({"image": found.name, "captions": dict(zip(styles, texts, strict=True))})
    return lines


def _decoded(
    captioner: Writer, batches: Sequence[Sequence[Found]]
) -> Iterator[tuple[Sequence[Found], list[np.ndarray | ValueError]]]:
    """Batches with their pictures, which threads decode beforehand."""
    transform = captioner.transform
    zips: dict[str, zipfile.ZipFile] = {}

    def load(found: Found) -> np.ndarray | ValueError:
        enough = (2 * transform.max_image_size, 2 * transform.max_image_size)
        try:
            if found.member is None:
                with open_file(found.path) as stream:
                    return transform.resize(decode(stream, draft_size=enough))
            content = _member(zips[found.path], found.member)
            return transform.resize(decode(io.BytesIO(content), draft_size=enough))
        except OSError as error:
            return ValueError(error.strerror or str(error))
        except ValueError as error:
            return error

    with contextlib.ExitStack() as stack:
        for path in {one.path for batch in batches for one in batch if one.member is not None}:
            zips[path] = stack.enter_context(zipfile.ZipFile(path))
        pool = stack.enter_context(ThreadPoolExecutor(_THREADS))
        ahead: deque[tuple[Sequence[Found], list[Future[Any]]]] = deque()
        left = iter(batches)
        while True:
            while len(ahead) < _AHEAD and (batch := next(left, None)) is not None:
                ahead.append((batch, [pool.submit(load, one) for one in batch]))
            if not ahead:
                return
            batch, futures = ahead.popleft()
            yield batch, [future.result() for future in futures]


def _member(file: zipfile.ZipFile, name: str) -> bytes:
    """The content of a member; threads may read the same file. ValueError for one that is damaged, or too large."""
    try:
        if file.getinfo(name).file_size > _MOST_BYTES:
            raise ValueError(f"it has more than {_MOST_BYTES >> 20} MB")
        return file.read(name)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, KeyError) as error:
        raise ValueError(f"the zip file is damaged, or encrypted ({error})") from None


def _known(out: Path, styles: Sequence[str]) -> set[str]:
    """The pictures that a former run has lines for; a last line that was cut short is removed.

    Raises ValueError for a file that such a run did not write, or wrote in other styles.
    """
    if not out.exists():
        return set()
    text = read_text(out)
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        os.truncate(out, len(whole.encode("utf-8")))
    known = set()
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            row = parse_json(line)
        except ValueError:
            row = None
        if not isinstance(row, dict) or "image" not in row or not {"captions", "error"} & set(row):
            raise ValueError(f"{out}: line {number} is no line of captions: name another file")
        if "captions" in row and list(row["captions"]) != list(dict.fromkeys(styles)):
            raise ValueError(f"{out}: line {number} has other styles: name another file, or the same styles")
        known.add(row["image"])
    return known


def _below(folder: str) -> Iterator[str]:
    for parent, folders, files in os.walk(folder):
        folders.sort()
        yield from (os.path.join(parent, name) for name in sorted(files) if name.lower().endswith(SUFFIXES))


def _some(found: Iterable[Found], source: str) -> Iterator[Found]:
    none = True
    for one in found:
        none = False
        yield one
    if none:
        raise ValueError(f"{source}: no pictures ({', '.join(SUFFIXES)}): name a folder or a pattern that has some")
