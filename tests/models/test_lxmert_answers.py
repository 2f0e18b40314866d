"""LXMERT's answers: normal forms, lists and their files."""

from pathlib import Path

import pytest

from models.lxmert.answers import check_answers, clean_label, matching_rows, read_answers


def test_answers_match_by_their_normal_form() -> None:
    assert matching_rows(["The Dog", "2", "gray", "cat"], ["two", "Grey", "dog"]) == [2, 0, 1, None]
    assert matching_rows(["yes", "Yes."], ["yes", "YES."]) == [0, 0]
    assert clean_label({"A man": 0.9, "unicorn": 0.3}, {"man": 4}) == {4: 0.9}


def test_answer_lists(tmp_path: Path) -> None:
    path = tmp_path / "answers.json"
    path.write_text('["yes", "no"]')
    assert read_answers(path) == ["yes", "no"]
    path.write_text('[{"ans": "2", "dsets": ["vqa"]}, {"ans": "man", "dsets": ["gqa"]}]')
    assert read_answers(path) == ["2", "man"]
    for content, message in (
        ("{", "not valid JSON"),
        ('{"yes": 0}', "is no answer list"),
        ("[1]", "is no answer list"),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            read_answers(path)
    with pytest.raises(ValueError, match="cannot read the answer list"):
        read_answers(tmp_path / "nowhere.json")
    with pytest.raises(ValueError, match="holds 'no' more than once"):
        check_answers(["no", "no"], 2)
