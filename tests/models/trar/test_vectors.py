"""Word vectors from GloVe's text and from arrays."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from models.trar.vectors import read_vectors, set_vectors

WORDS = ("PAD", "UNK", "CLS", "cat", "dog")
TEXT = "the 1 2 3\ncat 0.5 -1 2\nsky 4 5 6\n"


def test_glove_text_and_arrays_give_the_same(tmp_path: Path) -> None:
    (tmp_path / "glove.txt").write_text(TEXT)
    np.savez(tmp_path / "glove.npz", words=np.array(["cat", "sky"]), vectors=np.array([[0.5, -1, 2], [4, 5, 6]]))
    for name in ("glove.txt", "glove.npz"):
        vectors, found = read_vectors(tmp_path / name, WORDS)
        assert found == 1
        assert vectors.dtype == torch.float32
        assert vectors.tolist() == [[0, 0, 0]] * 3 + [[0.5, -1, 2], [0, 0, 0]]


def test_the_header_of_word2vec_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "vectors.txt").write_text("3 3\n" + TEXT)
    assert read_vectors(tmp_path / "vectors.txt", WORDS)[0][3].tolist() == [0.5, -1, 2]


def test_an_embedding_starts_from_vectors_and_is_trained_on(tmp_path: Path) -> None:
    (tmp_path / "glove.txt").write_text(TEXT)
    embedding = nn.Embedding(5, 3)
    vectors, _ = read_vectors(tmp_path / "glove.txt", WORDS)
    set_vectors(embedding, vectors)
    assert torch.equal(embedding.weight, vectors)
    assert embedding.weight.requires_grad
    with pytest.raises(ValueError, match=r"set model.config.word_width=3"):
        set_vectors(nn.Embedding(5, 4), vectors)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("the 1 2 3\ncat 1 2\n", "line 2: 2 numbers where 3 finite ones"),
        ("the 1 2 3\ncat 1 2 three\n", "line 2: .*a line is a word and its numbers"),
        ("the 1 2 3\ncat 1 2 nan\n", "line 2"),
        ("sky 1 2 3\n", "has none of the 5 words"),
        ("", "has none of the 5 words"),
    ],
)
def test_text_that_does_not_fit(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "glove.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_vectors(tmp_path / "glove.txt", WORDS)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot read"):
        read_vectors(tmp_path / "none.txt", WORDS)
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="no UTF-8 text"):
        read_vectors(tmp_path / "bytes.txt", WORDS)
    (tmp_path / "glove.npz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="cannot read the arrays"):
        read_vectors(tmp_path / "glove.npz", WORDS)
    np.savez(tmp_path / "short.npz", words=np.array(["cat", "dog"]), vectors=np.ones((1, 3)))
    with pytest.raises(ValueError, match="for 2 words"):
        read_vectors(tmp_path / "short.npz", WORDS)
    np.savez(tmp_path / "objects.npz", words=np.array(["cat"], dtype=object), vectors=np.ones((1, 3)))
    with pytest.raises(ValueError, match="cannot read the arrays"):
        read_vectors(tmp_path / "objects.npz", WORDS)
