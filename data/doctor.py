"""The doctor: what is wrong with a split before anybody trains on it."""

import difflib
import io
import string
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from os import cpu_count
from typing import Any, NamedTuple

import numpy as np
from tqdm.auto import tqdm

from data.images import decode
from data.names import fold
from data.reading import read_bytes
from data.samples import Split

_EXAMPLES = 5  # of each kind in a report
_HISTOGRAM_BAR = 40  # characters
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True)
class Report:
    """What `examine` found; `bad_rows` is keyed by the kinds of `faults`, `examples` by all kinds found.

    `faults` (missing, truncated, empty, unknown_style) keep a split from being trained on; `warnings` (too_long,
    duplicate) do not. Both give counts above zero only: of images for missing, truncated and duplicate (files that
    repeat another's bytes), of captions for the rest. `styles` counts captions, `lengths` captions per number of words.
    """

    split: str
    captions: int
    images: int
    max_words: int
    styles: dict[str, int]
    faults: dict[str, int]
    warnings: dict[str, int]
    examples: dict[str, list[str]]
    unknown_styles: dict[str, list[str]]  # name -> nearest names of the list
    lengths: dict[int, int]
    bad_rows: dict[str, np.ndarray]  # int64 rows of the split, of each fault

    def to_json(self) -> dict[str, Any]:
        """Everything but the rows, as plain values for `json.dumps`."""
        return {key: value for key, value in asdict(self).items() if key != "bad_rows"}

    def to_text(self) -> str:
        """The report for a terminal."""
        lines = [f"{self.split}: {self.captions} captions of {self.images} images"]
        lines += [f"  style {style}: {count}" for style, count in self.styles.items() if count]
        unused = [style for style, count in self.styles.items() if not count]
        if unused:
            lines.append(f"  styles without captions: {len(unused)} ({', '.join(unused[:_EXAMPLES])}{_dots(unused)})")
        for title, found in (("FAULT", self.faults), ("warning", self.warnings)):
            for kind, count in found.items():
                lines.append(f"  {title} {_MEANING[kind].format(max_words=self.max_words)}: {count}")
                lines += [f"    {example}" for example in self.examples[kind]]
                lines += ["    ..."] if count > len(self.examples[kind]) else []
        if not self.faults:
            lines.append("  no faults")
        return "\n".join([*lines, "  words per caption:", *self._histogram()])

    def _histogram(self) -> list[str]:
        highest = max(self.lengths.values())
        return [
            f"  {words:>5} {'#' * -(-count * _HISTOGRAM_BAR // highest)} {count}"
            for words, count in self.lengths.items()
        ]


_MEANING = {
    "missing": "missing images",
    "truncated": "images that cannot be decoded whole",
    "empty": "captions without a word",
    "unknown_style": "captions in a style that is not in the list",
    "too_long": "captions of more than {max_words} words, to be cut",
    "duplicate": "images that repeat another's bytes",
}
_FAULTS = ("missing", "truncated", "empty", "unknown_style")


@dataclass
class _Findings:
    """What one pass over captions or images collects, by kind."""

    counts: Counter[str] = field(default_factory=Counter)
    rows: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, kind: str, rows: Iterable[int], example: str) -> None:
        self.counts[kind] += 1
        self.rows[kind].extend(rows)
        if len(self.examples[kind]) < _EXAMPLES:
            self.examples[kind].append(example)


class Look(NamedTuple):
    """At one image: a digest of its file's bytes, the kind of fault ("" if none) and its reason."""

    digest: bytes
    fault: str
    reason: str


def look_at_images(split: Split, *, rank: int = 0, ranks: int = 1) -> list[Look]:
    """Decodes the images `rank`, `rank + ranks`, … of `split`: the share of one process among those that look together.

    `in_order` puts the shares together.
    """
    paths = split.image_paths[rank::ranks]
    # Threads are enough: Pillow decodes without holding the interpreter lock.
    with ThreadPoolExecutor(cpu_count()) as pool:
        return list(tqdm(pool.map(_look, paths), "images", len(paths), delay=2, leave=False, disable=rank > 0))


def in_order(shares: Sequence[Sequence[Look]]) -> list[Look]:
    """What each rank found in `look_at_images`, in the order of the split's images."""
    looks: list[Any] = [None] * sum(map(len, shares))
    for rank, share in enumerate(shares):
        looks[rank :: len(shares)] = share
    return looks


def examine(split: Split, *, max_words: int, looks: Sequence[Look] | None = None) -> Report:
    """Looks at every caption and decodes every image of `split`; captions longer than `max_words` count as too long.

    `looks`: what was found in its images already.
    """
    findings = _Findings()
    nearest = {name: _nearest(name, split.styles) for name in split.unknown_styles}
    styles, lengths = _examine_captions(split, max_words, findings)
    _examine_images(split, look_at_images(split) if looks is None else looks, findings)
    findings.examples["unknown_style"] = [
        f"{name!r} ({styles[name]} captions), nearest: {', '.join(names) or 'none'}"
        for name, names in list(nearest.items())[:_EXAMPLES]
    ]
    kinds = [kind for kind in _MEANING if findings.counts[kind]]
    return Report(
        split=split.name,
        captions=len(split),
        images=split.n_images,
        max_words=max_words,
        styles=dict(styles),
        faults={kind: findings.counts[kind] for kind in kinds if kind in _FAULTS},
        warnings={kind: findings.counts[kind] for kind in kinds if kind not in _FAULTS},
        examples={kind: findings.examples[kind] for kind in kinds},
        unknown_styles=nearest,
        lengths=dict(sorted(lengths.items())),
        bad_rows={kind: np.array(findings.rows[kind], dtype=np.int64) for kind in kinds if kind in _FAULTS},
    )


def drop_bad(split: Split, report: Report) -> tuple[Split, dict[str, int]]:
    """The split without the rows at fault, and how many captions each kind of fault cost.

    A caption with several faults counts for the first of them in the report's order. Raises ValueError if no caption
    is left.
    """
    bad = np.zeros(len(split), dtype=bool)
    skipped = {}
    for kind, rows in report.bad_rows.items():
        skipped[kind] = int((~bad[rows]).sum())
        bad[rows] = True
    if bad.all():
        raise ValueError(
            f"{split.name}: every caption is at fault ({report.faults}): correct the data or data.image_dir"
        )
    return (split.take(np.flatnonzero(~bad).tolist()) if bad.any() else split), skipped


def _words(caption: str) -> int:
    """Words of a caption as OFA is trained on it, without punctuation."""
    return len(caption.translate(_PUNCTUATION).split())


def _nearest(name: str, styles: Sequence[str]) -> list[str]:
    folded = {fold(style): style for style in styles}
    return [folded[match] for match in difflib.get_close_matches(fold(name), folded, n=3)]


def _dots(items: Sequence[str]) -> str:
    return ", ..." if len(items) > _EXAMPLES else ""


def _examine_captions(split: Split, max_words: int, findings: _Findings) -> tuple[Counter[str], Counter[int]]:
    """Number of captions per style, the listed ones first, and per number of words."""
    styles: Counter[str] = Counter(dict.fromkeys(split.styles, 0))
    lengths: Counter[int] = Counter()
    for i, sample in enumerate(split):
        words = _words(sample.caption)
        styles[sample.style] += 1
        lengths[words] += 1
        if words == 0:
            findings.add("empty", [i], f"{sample.image_id}, {sample.style}: {sample.caption!r}")
        elif words > max_words:
            findings.add("too_long", [i], f"{sample.image_id}, {sample.style}: {words} words")
        if sample.style in split.unknown_styles:
            findings.add("unknown_style", [i], sample.style)
    return styles, lengths


def _examine_images(split: Split, looks: Sequence[Look], findings: _Findings) -> None:
    first_with: dict[bytes, str] = {}
    for j, (path, (digest, fault, reason)) in enumerate(zip(split.image_paths, looks, strict=True)):
        if fault:
            findings.add(fault, split.image_rows(j).tolist(), f"{path}{reason}")
        elif first_with.setdefault(digest, path) != path:
            findings.add("duplicate", split.image_rows(j).tolist(), f"{path} = {first_with[digest]}")


def _look(path: str) -> Look:
    try:
        content = read_bytes(path)
    except OSError as error:
        return Look(b"", "missing", "" if isinstance(error, FileNotFoundError) else f": {error.strerror}")
    digest = blake2b(content, digest_size=16).digest()
    try:
        # An eighth of a JPEG's size: the whole file is still read and unpacked, in a fraction of the time.
        decode(io.BytesIO(content), draft_size=(1, 1))
    except ValueError as error:
        return Look(digest, "truncated", f": {error}")
    return Look(digest, "", "")
