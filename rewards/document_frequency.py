"""The corpus table of CIDEr-D: in how many training images each n-gram occurs.

Built once from the training captions and kept beside the run. The file is the pickle that other SCST code reads and
writes, ``{"ref_len": number of images, "document_frequency": {n-gram tuple: count}}``, with a fingerprint of the data
added. Reading never runs what a pickle asks for: only plain containers, numbers and strings are let through, by a
process that may take so much time and memory and no more.
"""

import hashlib
import logging
import pickle
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from data.confined import confined
from data.files import replacing
from data.reading import read_bytes
from data.run_folder import RunFolder
from data.samples import Split
from metrics.cider import DocumentFrequency
from metrics.tokenizers import tokenizer_of
from rewards.plain_pickle import plain, vetted

logger = logging.getLogger("stylecap")

_FAMILIAR = 0.5  # least share of a corpus' words that a table of the same corpus, tokenized elsewhere, must know
#: What reading a table may take: a start, and more for larger files.
_SECONDS, _MEGABYTES = 60, 512
_MEGABYTES_OF_ONE = 40  # of memory for one of the file


def tokenize_references(
    references: Iterable[Sequence[str]], *, end_word: str | None = None, tokenizer: str = "ptb"
) -> list[list[str]]:
    """Raw captions per image -> tokenized ones; `end_word`, where given, ends each as a word of its own."""
    tokenize = tokenizer_of(tokenizer)
    end = f" {end_word}" if end_word else ""
    return [[(tokens + end).strip() for tokens in tokenize(list(of_image))] for of_image in references]


def fingerprint(references: Iterable[Sequence[str]], *, end_word: str | None = None, tokenizer: str = "ptb") -> str:
    """A digest of a corpus and its tokenizer, whatever the order of its images and of their captions."""
    total = 0
    for of_image in references:
        text = "\n".join(sorted(caption.replace("\n", " ") for caption in of_image))
        total += int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16])
    units = "" if tokenizer == "ptb" else f" {tokenizer}"
    return hashlib.sha256(f"{total} {end_word}{units}".encode()).hexdigest()


def table_of_split(run: RunFolder, split: Split, tokenizer: str = "ptb") -> DocumentFrequency:
    """The table of a training split, kept in the run's folder; a document is an image, in all its styles."""
    return table_of_corpus(run.document_frequency, captions_by_image(split), tokenizer=tokenizer)


def captions_by_image(split: Split) -> list[list[str]]:
    """All captions of each image, in whatever style: the documents of a corpus."""
    return [[split[int(row)].caption for row in split.image_rows(j)] for j in range(split.n_images)]


def table_of_corpus(
    path: Path, references: Sequence[Sequence[str]], *, end_word: str | None = None, tokenizer: str = "ptb"
) -> DocumentFrequency:
    """The table of these training captions (raw, per image): read from `path`, or built and written there.

    A file of other data, an unreadable one or one without a fingerprint is built anew and replaced.
    """
    if not any(caption.strip() for of_image in references for caption in of_image):
        raise ValueError(
            "document frequencies need training captions, and the training split has none that says anything"
        )
    expected = fingerprint(references, end_word=end_word, tokenizer=tokenizer)
    if path.exists():
        try:
            table, found = _read(path)
        except ValueError as error:
            logger.warning("%s; it is built anew", error)
        else:
            if found == expected:
                return table
            logger.info("The training captions are not those of %s; document frequencies are counted again", path)
    table = DocumentFrequency.of(tokenize_references(references, end_word=end_word, tokenizer=tokenizer))
    write_table(path, table, data_fingerprint=expected)
    return table


def read_table(
    path: Path,
    references: Sequence[Sequence[str]] | None = None,
    *,
    end_word: str | None = None,
    tokenizer: str = "ptb",
) -> DocumentFrequency:
    """A table that somebody named, from this program or other SCST code.

    With `references` (raw captions per image of the training split) it must be of these data: the same fingerprint or,
    where the file has none, at least half of their words known.
    """
    table, found = _read(path)
    if references is None:
        return table
    if found is not None and found != fingerprint(references, end_word=end_word, tokenizer=tokenizer):
        raise ValueError(
            f"{path} holds the document frequencies of other training captions: remove the file to count again, or "
            "give the split that it was made from"
        )
    tokenized = tokenize_references(references, tokenizer=tokenizer)
    words = {word for of_image in tokenized for line in of_image for word in line.split()}
    known = sum((word,) in table.counts for word in words)
    if words and known < _FAMILIAR * len(words):
        raise ValueError(
            f"{path} holds the document frequencies of other data: it knows {known} of the {len(words)} words of the "
            "training captions; name the file of this data set, or none to have it counted"
        )
    return table


def write_table(path: Path, table: DocumentFrequency, *, data_fingerprint: str | None = None) -> None:
    """Write the pickle under a temporary name, then rename it, so that a broken write leaves the old file whole."""
    content = {
        "ref_len": table.documents,
        "document_frequency": defaultdict(float, table.counts),  # others look up n-grams that are not there
    }
    if data_fingerprint is not None:
        content["fingerprint"] = data_fingerprint
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(pickle.dumps(content, protocol=2))


def _read(path: Path) -> tuple[DocumentFrequency, str | None]:
    """The table of a file and its fingerprint, None where other code wrote it."""
    try:
        content = read_bytes(path)
    except OSError as error:
        raise ValueError(f"cannot read the document frequencies {path}: {error.strerror or error}") from error
    size = len(content) / 2**20
    try:
        sound = confined(vetted, content, seconds=_SECONDS + size, megabytes=int(_MEGABYTES + _MEGABYTES_OF_ONE * size))
    except ValueError as error:
        raise ValueError(f"{path} is not a table of document frequencies: {error}") from error
    documents, counts, found = plain(sound)
    return DocumentFrequency(
        documents, {tuple(map(sys.intern, ngram)): count for ngram, count in counts.items()}
    ), found
