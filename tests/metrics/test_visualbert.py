"""The original VisualBERT's accuracy and lines of predictions."""

from metrics.visualbert import predicted, published_scores, true_or_false

LOGITS = [[9.0, 1.0, 2.0], [0.0, 3.0, 1.0]]


def test_the_best_answer_with_and_without_unknown():
    assert predicted(LOGITS).tolist() == [0, 1]
    assert predicted(LOGITS, unknown=0).tolist() == [2, 1]


def test_scores_leave_unknown_out():
    assert published_scores(LOGITS, [[1.0, 0.3, 0.6], [0, 0.9, 0]]).tolist() == [0.6, 0.9]


def test_lines_of_true_or_false():
    assert true_or_false(["a-0", "a-1"], [[0.1, 0.2], [0.2, 0.1]]) == ["a-0,True", "a-1,False"]
