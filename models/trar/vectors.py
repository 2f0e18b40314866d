"""Word vectors from a file, for the embedding of a new network."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def read_vectors(path: str | Path, words: Sequence[str]) -> tuple[Tensor, int]:
    """[len(words), D] float32, a vector a word, and how many words the file has; the others get zeros.

    Args:
        path: GloVe's text, a line `word x1 ... xD` each, read without holding the file in memory; or an `.npz` with
            `words` (texts) and `vectors` [V, D].
        words: of the vocabulary, in the order of its numbers.

    Raises:
        ValueError: the file cannot be read, has a line or an array that does not fit, or none of the words.
    """
    path = Path(path)
    rows = {word: number for number, word in enumerate(words)}
    found = _from_npz(path, rows) if path.suffix == ".npz" else _from_text(path, rows)
    if not found:
        raise ValueError(
            f"{path} has none of the {len(words)} words: name vectors of the questions' language, lower case"
        )
    width = len(next(iter(found.values())))
    vectors = torch.zeros(len(words), width)
    for row, vector in found.items():
        vectors[row] = torch.from_numpy(vector)
    return vectors, len(found)


def set_vectors(embedding: torch.nn.Embedding, vectors: Tensor) -> None:
    """Start the embedding from these vectors [V, D]; they are trained on.

    Raises:
        ValueError: vectors of another number or width.
    """
    if vectors.shape != embedding.weight.shape:
        raise ValueError(
            f"vectors of shape {list(vectors.shape)} for an embedding of {list(embedding.weight.shape)}: set "
            f"model.config.word_width={vectors.shape[1]}, or use other vectors"
        )
    with torch.no_grad():
        embedding.weight.copy_(vectors)


def _from_text(path: Path, rows: dict[str, int]) -> dict[int, np.ndarray]:
    found: dict[int, np.ndarray] = {}
    width = 0
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                word, _, numbers = line.rstrip().partition(" ")
                if number == 1 and numbers.isdigit():
                    continue  # word2vec's header: how many vectors of what width
                if not width:
                    width = len(numbers.split())
                if word not in rows:
                    continue
                vector = _numbers(path, number, numbers, width)
                found.setdefault(rows[word], vector)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}; name a file of word vectors") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text ({error.reason}); name GloVe's .txt, or an .npz") from error
    return found


def _numbers(path: Path, line: int, text: str, width: int) -> np.ndarray:
    try:
        vector = np.array(text.split(), dtype=np.float32)
    except ValueError as error:
        raise ValueError(f"{path}, line {line}: {error}; a line is a word and its numbers") from error
    if len(vector) != width or not width or not np.isfinite(vector).all():
        raise ValueError(
            f"{path}, line {line}: {len(vector)} numbers where {width} finite ones are needed; copy it again"
        )
    return vector


def _from_npz(path: Path, rows: dict[str, int]) -> dict[int, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as content:
            words, vectors = content["words"].tolist(), content["vectors"].astype(np.float32)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: cannot read the arrays words and vectors ({error}); check the file") from error
    if vectors.ndim != 2 or len(vectors) != len(words) or not np.isfinite(vectors).all():
        raise ValueError(
            f"{path}: vectors {list(vectors.shape)} for {len(words)} words: [words, width] finite numbers needed"
        )
    return {rows[word]: vectors[number] for number, word in enumerate(words) if word in rows}
