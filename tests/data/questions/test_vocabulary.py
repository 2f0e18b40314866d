"""Answer vocabularies: built, read, saved; what a question teaches."""

import json
from pathlib import Path

import pytest

from data.questions import AnswerVocabulary, Question, soft_score


def asked(answer: str = "", **fields: object) -> Question:
    return Question(1, ("a",), "?", answer, **fields)  # type: ignore[arg-type]


def test_the_soft_rule() -> None:
    assert [soft_score(matches) for matches in (0, 1, 2, 3, 4, 10)] == [0, 0.3, 0.6, 0.9, 1, 1]


def test_built_by_count() -> None:
    questions = [asked(answer) for answer in ["b", "a", "A", "c", "a", "b", "d", ""]]
    assert list(AnswerVocabulary.build(questions)) == ["b", "a", "A", "c", "d"]
    assert list(AnswerVocabulary.build(questions, normalise="lower", min_count=2)) == ["a", "b"]
    assert list(AnswerVocabulary.build(questions, normalise="lower", min_count=2, order="appearance")) == ["b", "a"]
    assert list(AnswerVocabulary.build(questions, max_size=1)) == ["b"]
    with pytest.raises(ValueError, match="no answer occurs 9 times"):
        AnswerVocabulary.build(questions, min_count=9)
    with pytest.raises(ValueError, match="order is 'size'"):
        AnswerVocabulary.build(questions, order="size")


def test_lookup_tries_the_answer_as_it_is_first() -> None:
    vocabulary = AnswerVocabulary(["The cat", "2", "cat"], "vqa")
    assert [vocabulary.index_of(answer) for answer in ("The cat", "a cat", "two", "dog")] == [0, 2, 1, None]
    assert ("Two!" in vocabulary, "dog" in vocabulary, 2 in vocabulary) == (True, False, False)


def targets(vocabulary: AnswerVocabulary, question: Question) -> dict[int, float]:
    rows, scores = vocabulary.targets(question)
    assert (str(rows.dtype), str(scores.dtype)) == ("int64", "float32")
    return {int(row): round(float(score), 6) for row, score in zip(rows, scores, strict=True)}


def test_targets_of_annotators_of_labels_and_of_one_answer() -> None:
    vocabulary = AnswerVocabulary(["yes", "no", "2"], "vqa")
    ten = ("Yes",) * 4 + ("no", "no.", "two", "maybe", "maybe", "maybe")
    assert targets(vocabulary, asked(answers=ten)) == {0: 1.0, 1: 0.6, 2: 0.3}
    assert targets(vocabulary, asked("yes", labels={"no": 0.3, "zebra": 1.0})) == {1: 0.3}
    assert targets(vocabulary, asked("Yes")) == {0: 1.0}
    assert targets(vocabulary, asked("zebra")) == {}
    assert targets(vocabulary, asked(labels={})) == {}
    assert targets(vocabulary, asked()) == {}


def test_saved_and_loaded(tmp_path: Path) -> None:
    vocabulary = AnswerVocabulary(["ja", "nö"], "lower")
    vocabulary.save(tmp_path / "answers.json")
    assert AnswerVocabulary.read(tmp_path / "answers.json") == vocabulary
    vocabulary.save_lxmert(tmp_path / "ans2label.json", tmp_path / "label2ans.json")
    for name in ("ans2label", "label2ans"):
        assert AnswerVocabulary.read(tmp_path / f"{name}.json").answers == ("ja", "nö")


def test_every_form_of_file(tmp_path: Path) -> None:
    forms = [{"a": 1, "b": 0}, ["b", "a"], [{"ans": "b", "dsets": []}, {"ans": "a", "dsets": []}]]
    forms.append([{"a": 1, "b": 0}, {"0": "b", "1": "a"}])
    for form in forms:
        path = tmp_path / "answers.json"
        path.write_text(json.dumps(form))
        assert list(AnswerVocabulary.read(path)) == ["b", "a"]
    (tmp_path / "answers.txt").write_text("b\n\na\n")
    assert list(AnswerVocabulary.read(tmp_path / "answers.txt", "vqa")) == ["b", "a"]


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"a": 0, "b": 2}, "the rows are not 0 to 1"),
        ({"a": "x"}, "'x' is no row number"),
        ([1], "entry 0 is no answer"),
        (5, "no answer vocabulary"),
        ([], "no answers"),
        (["a", "a"], "answer 'a' is there twice, at 0 and 1"),
        ({"answers": ["a"], "normalise": "mine"}, "normalise is 'mine'"),
    ],
)
def test_files_that_are_wrong(tmp_path: Path, form: object, message: str) -> None:
    path = tmp_path / "answers.json"
    path.write_text(json.dumps(form))
    with pytest.raises(ValueError, match=message):
        AnswerVocabulary.read(path)
