import pickle
import random
from typing import Any

import pytest
from modelscope.metrics.builder import build_metric
from modelscope.outputs import OutputKeys
from modelscope.trainers.utils.inference import get_metric_values, merge_metrics

from evaluation.caption_metric import MODULE_NAME, ImageCaptionMetric
from evaluation.caption_scores import score_captions

ITEMS = [
    (
        {
            "image_id": f"{image}.jpg",
            "style": style,
            "references": (f"{noun} in the {place}", f"the {place} and {noun}"),
        },
        f"{noun} near the {place}, {style.lower()}",
    )
    for image, (noun, place) in enumerate(
        [("a dog", "park"), ("two cats", "house"), ("a man", "rain"), ("a boy", "sea")]
    )
    for style in ("Sweet", "Cynical")
]


def filled(items: list[tuple[dict[str, Any], str]], batch: int = 3) -> ImageCaptionMetric:
    metric = build_metric(MODULE_NAME)
    for start in range(0, len(items), batch):
        part = items[start : start + batch]
        metric.add({OutputKeys.CAPTION: [one for _, one in part]}, {"requests": [request for request, _ in part]})
    return metric


def test_it_is_registered_and_scores_as_score_captions() -> None:
    metric = filled(ITEMS)
    assert isinstance(metric, ImageCaptionMetric)
    ordered = sorted(ITEMS, key=lambda item: (item[0]["image_id"], item[0]["style"]))
    expected = score_captions(
        [caption for _, caption in ordered],
        [request["references"] for request, _ in ordered],
        scorer="stylecap",
        meteor=False,
        spice=False,
        java_timeout_s=1,
    )
    assert metric.evaluate() == {name: score for name, score in expected.scores.items() if score is not None}
    assert metric.evaluate()["CIDEr"] > 0


@pytest.mark.parametrize("ranks", [2, 3, 8])
def test_merged_over_ranks_as_on_one(ranks: int) -> None:
    items = ITEMS[:]
    random.shuffle(items)
    padded = items + items[: -len(items) % ranks]  # as a sampler pads
    # ModelScope sends a rank's metrics as a pickle
    parts = [[pickle.loads(pickle.dumps(filled(padded[rank::ranks], batch=2)))] for rank in range(ranks)]
    assert get_metric_values(merge_metrics(parts)) == filled(ITEMS).evaluate()


def test_one_rank_may_have_nothing_but_not_all() -> None:
    metric = build_metric({"type": MODULE_NAME, "meteor": False})
    with pytest.raises(ValueError, match="no captions were added"):
        metric.evaluate()
    metric.merge(filled(ITEMS))
    assert metric.evaluate() == filled(ITEMS).evaluate()


def test_a_caption_too_few_is_an_error() -> None:
    with pytest.raises(ValueError, match="1 captions for 2 requests"):
        build_metric(MODULE_NAME).add({OutputKeys.CAPTION: ["a"]}, {"requests": [ITEMS[0][0], ITEMS[1][0]]})
