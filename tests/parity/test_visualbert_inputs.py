"""VisualBERT's inputs against those of the original's data sets: ids, labels, pairs, alignments, scores, files."""

import random
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from metrics.visualbert import predicted, published_scores, true_or_false
from models.visualbert.losses import soft_target_loss
from models.wordpiece import load_wordpiece
from preprocessors.visualbert.boxes import screened
from preprocessors.visualbert.captions import CaptionPairs, caption_text
from preprocessors.visualbert.collate import Item, collate
from preprocessors.visualbert.pieces import WordPieces
from preprocessors.visualbert.questions import (
    answer_pieces,
    answer_scores,
    dense,
    question_and_answer,
    question_text,
    question_words,
)
from preprocessors.visualbert.sentences import both_images, image_names, sentence_text, truth
from preprocessors.visualbert.texts import Text, cut_pair, cut_single, mask_piece
from preprocessors.visualbert.vcr import Choice, choices, objects_used, pretraining_choices
from tests.conftest import SHARED
from tests.parity.conftest import Golden
from tests.parity.replay import Replay

#: The original's names in a batch -> ours.
BATCH = {
    "image_feat_variable": "features",
    "bert_input_ids": "input_ids",
    "bert_input_mask": "text_mask",
    "bert_input_type_ids": "segment_ids",
    "masked_lm_labels": "word_labels",
    "visual_embeddings_type": "box_types",
    "label": "labels",
}


@cache
def vocabulary() -> WordPieces:
    return WordPieces.of(load_wordpiece(SHARED / "bert_vocab"))


def numbers() -> Mapping[str, int]:
    return vocabulary().tokenizer.get_vocab()


def assert_text(text: Text, expected: Mapping[str, Any]) -> None:
    assert text.ids == expected["bert_input_ids"]
    assert text.segments == expected["bert_input_type_ids"]
    assert len(text.ids) == sum(expected["bert_input_mask"])
    assert vocabulary().tokens(text.ids) == expected["tokens"]
    assert text.word_labels == expected.get("masked_lm_labels")


def assert_batch_shapes(items: Sequence[Item], expected: Mapping[str, list[int]]) -> None:
    batch = collate(items)
    for theirs, ours in BATCH.items():
        if theirs in expected:
            assert list(batch[ours].shape) == expected[theirs]


def features(rows: int, width: int) -> np.ndarray:
    return np.zeros((rows, width), np.float32)


@pytest.mark.goldens("inputs_vqa*", system="visualbert")
def test_questions(golden: Golden) -> None:
    content = golden.json
    answers = {answer: number for number, answer in enumerate(content["answers"])}
    tuning, training = [], []
    for record, fine, pre in zip(content["records"], content["fine_tuning"], content["pre_training"], strict=True):
        words = question_words(record["question_str"])
        assert words == record["question_tokens"]
        question = vocabulary().split(" ".join(words))
        scores = answer_scores(record["valid_answers"], answers)
        label = dense(scores, len(answers))

        text = question_text(vocabulary(), question)
        assert_text(text, fine)
        assert text.ids[-2] == vocabulary().mask
        assert scores == pytest.approx({int(n): score for n, score in fine["label_nonzero"].items()})
        tuning.append((text, label))

        draws = Replay(pre["draws"], numbers())
        answer = answer_pieces(vocabulary(), pre["answer_drawn"], spelling="published")
        text = question_and_answer(vocabulary(), question, answer, draws)
        assert_text(text, pre)
        assert draws.done
        training.append((text, label))
    for made, kind in ((tuning, "fine_tuning"), (training, "pre_training")):
        shapes = content[f"{kind}_batch_shapes"]
        _, rows, width = shapes["image_feat_variable"]
        assert_batch_shapes([Item([text], features(rows, width), label=label) for text, label in made], shapes)


@pytest.mark.goldens("inputs_vqa*", system="visualbert")
def test_the_file_of_answers(golden: Golden) -> None:
    written = golden.json["result_json"]

    best = predicted(written["logits"])

    answers = [golden.json["answers"][number] for number in best]
    assert answers == [row["answer"] for row in written["written"]]


@pytest.mark.goldens("inputs_nlvr2*", system="visualbert")
def test_sentences_about_two_pictures(golden: Golden) -> None:
    content = golden.json
    cap = content["image_feature_cap"]
    for kind in ("fine_tuning", "pre_training"):
        items = []
        for record, expected in zip(content["records"], content[kind], strict=True):
            draws = Replay(expected["draws"], numbers()) if kind == "pre_training" else None
            text = sentence_text(vocabulary(), vocabulary().split(record["sentence"]), draws)
            assert_text(text, expected)
            assert draws is None or draws.done
            assert [truth(record["label"])] == expected["label"] == expected["is_random_next"]
            assert set(image_names(record["identifier"])) <= set(content["feature_keys"])
            width = content[f"{kind}_batch_shapes"]["image_feat_variable"][-1]
            rows, types = both_images(features(cap + 1, width), features(cap + 3, width), regions=cap)
            assert types.tolist() == expected["visual_embeddings_type"]
            assert [len(rows)] == expected["image_dim_variable"]
            items.append(Item([text], rows, types, label=expected["label"][0]))
        assert_batch_shapes(items, content[f"{kind}_batch_shapes"])


@pytest.mark.goldens("inputs_nlvr2*", system="visualbert")
def test_the_file_of_truths(golden: Golden) -> None:
    content = golden.json["results_csv"]
    records = golden.json["records"]

    lines = true_or_false([record["identifier"] for record in records], content["logits"])

    assert lines == content["lines"]
    right = [line.endswith(record["label"]) for line, record in zip(lines, records, strict=True)]
    assert np.mean(right) == pytest.approx(content["accuracy"])


@pytest.mark.goldens("inputs_coco*", system="visualbert")
def test_pairs_of_captions(golden: Golden) -> None:
    annotations = golden.json["annotations"]
    pairs = CaptionPairs([row["image_id"] for row in annotations])
    pieces = vocabulary().split_all([row["caption"] for row in annotations])
    for sample in golden.json["samples"]:
        draws = Replay(sample["draws"], numbers())

        second, matches = pairs.draw(sample["index"], draws)
        text = caption_text(vocabulary(), pieces[sample["index"]], pieces[second], draws, cut="published")

        assert_text(text, sample)
        assert matches == bool(sample["is_random_next"])
        assert draws.done


@pytest.mark.goldens("inputs_coco*", system="visualbert")
def test_pairs_match_as_often_as_the_originals(golden: Golden) -> None:
    expected = golden.json["pair_statistics"]
    images = [row["image_id"] for row in golden.json["annotations"]]
    pairs, draws = CaptionPairs(images), random.Random(3)

    drawn = [(first, *pairs.draw(first, draws)) for first in (n % len(images) for n in range(expected["pairs"]))]

    assert np.mean([matches for _, _, matches in drawn]) == pytest.approx(expected["fraction_matching"], abs=0.05)
    assert sum(first == second for first, second, _ in drawn) == expected["second_caption_is_the_first"]
    assert all((images[first] == images[second]) == matches for first, second, matches in drawn)


@pytest.mark.goldens("inputs_vcr*", system="visualbert")
def test_choices_and_what_they_point_at(golden: Golden) -> None:
    content = golden.json
    item = content["item"]
    rules: dict[str, Any] = {"names": "published", "positions": "published", "cut": "published"}
    made: dict[str, list[Choice]] = {
        "qa": choices(vocabulary(), item, "answer", **rules),
        "qar": choices(vocabulary(), item, "rationale", **rules),
        "pre_training": pretraining_choices(vocabulary(), item, **rules),
    }
    for kind, case in content["cases"].items():
        used, regions = objects_used(item)
        assert used == case["boxes_used"]
        assert regions == case["box_number_of_object"]
        for choice, expected in zip(made[kind], case["examples"], strict=True):
            assert choice.text.ids == expected["input_ids"]
            assert choice.text.segments == expected["input_type_ids"]
            assert vocabulary().tokens(choice.text.ids) == expected["tokens"]
            assert choice.alignment == expected["image_text_alignment"]
            assert choice.correct == expected["is_correct"]


@pytest.mark.goldens("masking*", system="visualbert", when=lambda content: "rule" in content and "cases" in content)
def test_masked_words(golden: Golden) -> None:
    for case in golden.json["cases"]:
        draws = Replay(case["draws"], numbers())
        size, mask = vocabulary().size, vocabulary().mask

        made = [
            mask_piece(numbers()[token], draws, probability=case["probability"], mask=mask, size=size)
            for token in case["tokens"]
        ]

        assert vocabulary().tokens([piece for piece, _ in made]) == case["masked"]
        assert [label for _, label in made] == case["labels"]
        assert draws.done


@pytest.mark.goldens("masking*", system="visualbert", when=lambda content: "statistics" in content)
def test_as_many_words_are_masked_as_in_the_original(golden: Golden) -> None:
    expected, draws = golden.json["statistics"], random.Random(5)
    size, mask, piece = vocabulary().size, vocabulary().mask, numbers()["river"]

    made = [
        mask_piece(piece, draws, probability=golden.json["probability"], mask=mask, size=size)
        for _ in range(expected["tokens"])
    ]

    chosen = [read for read, label in made if label >= 0]
    assert len(chosen) / len(made) == pytest.approx(expected["chosen"], abs=0.01)
    assert np.mean([read == mask for read in chosen]) == pytest.approx(expected["mask"], abs=0.03)
    assert np.mean([read == piece for read in chosen]) == pytest.approx(expected["kept"], abs=0.03)


@pytest.mark.goldens("truncation*", system="visualbert")
def test_texts_are_cut_as_published(golden: Golden) -> None:
    for case in golden.json["cases"]:
        first = [f"a{n}" for n in range(case["len_a"])]
        limit = case["max_seq_length"]
        if case["len_b"] is None:
            cut = {"a": cut_single(first, limit), "b": None}
        else:
            second = [f"b{n}" for n in range(case["len_b"])]
            a, b = cut_pair(first, second, limit, rule="published")
            cut = {"a": a, "b": b}

        for side, kept in cut.items():
            ends = None if kept is None else [kept[0], kept[-1]] if kept else []
            assert ends == case[side]
            assert (None if kept is None else len(kept)) == case[f"kept_{side}"]


@pytest.mark.goldens("features*", system="visualbert", when=lambda content: "confidences" in content)
def test_regions_are_screened_as_published(golden: Golden) -> None:
    for case in golden.json["cases"]:
        kept = screened(golden.json["confidences"], **case["parameters"], keep=case["mandatory_keep"], rule="published")

        assert kept.tolist() == case["kept_rows"]
        assert len(kept) == case["count"]


@pytest.mark.goldens("scores*", system="visualbert", when=lambda content: "valid_answers" in str(content))
def test_scores_of_answers(golden: Golden) -> None:
    content = golden.json
    answers = {answer: number for number, answer in enumerate(content["answers"])}
    for target in content["targets"]:
        scores = answer_scores(target["valid_answers"], answers)
        assert scores == pytest.approx({int(number): score for number, score in target["scores"].items()})
        assert dense(scores, len(answers)).sum() == pytest.approx(target["sum"])
    for question, words in content["question_tokens"]:
        assert question_words(question) == words


@pytest.mark.goldens("scores*", system="visualbert", when=lambda content: "accuracy" in content)
def test_the_originals_accuracy(golden: Golden) -> None:
    case = golden.json["accuracy"]

    scores = published_scores(case["logits"], case["labels"])

    assert predicted(case["logits"], unknown=golden.json["unknown_index"]).tolist() == case["prediction"]
    assert predicted(case["logits"]).tolist() == case["plain_argmax"]
    assert scores.tolist() == pytest.approx(case["per_question"])
    assert scores.mean() == pytest.approx(case["accuracy"])
    loss = soft_target_loss(torch.tensor(case["logits"]), torch.tensor(case["labels"]))
    assert loss.item() == pytest.approx(case["kl_loss"], abs=1e-5)
