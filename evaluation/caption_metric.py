"""`image-caption-metric`: the caption metrics as a ModelScope metric, for `EpochBasedTrainer.evaluate`."""

from collections.abc import Mapping
from typing import Any

from modelscope.metrics.base import Metric
from modelscope.metrics.builder import METRICS
from modelscope.outputs import OutputKeys
from modelscope.utils.registry import default_group

from evaluation.caption_scores import score_captions

MODULE_NAME = "image-caption-metric"


@METRICS.register_module(group_key=default_group, module_name=MODULE_NAME)
class ImageCaptionMetric(Metric):
    """Gathers captions batch by batch and scores them all at the end.

    Args:
        scorer, meteor, spice, java_timeout_s: as for `score_captions`. METEOR and SPICE are off unless asked for: an
            evaluation during training has no time for a JVM.
    """

    def __init__(
        self,
        *,
        scorer: str = "stylecap",
        meteor: bool = False,
        spice: bool = False,
        java_timeout_s: float = 600,
        **others: Any,
    ) -> None:
        super().__init__(**others)
        self._how: dict[str, Any] = {
            "scorer": scorer,
            "meteor": meteor,
            "spice": spice,
            "java_timeout_s": java_timeout_s,
        }
        self._found: dict[tuple[str, str], tuple[str, tuple[str, ...]]] = {}  # (image, style) -> caption, references

    def add(self, outputs: Mapping[str, Any], inputs: Mapping[str, Any]) -> None:
        """Take a batch: `outputs["caption"]`, a caption for each of `inputs["requests"]`.

        A request is ``{"image_id", "style", "references"}``. One that comes again (samplers pad the last batch of a
        rank) counts once.
        """
        captions, requests = outputs[OutputKeys.CAPTION], inputs["requests"]
        if len(captions) != len(requests):
            raise ValueError(f"{MODULE_NAME}: {len(captions)} captions for {len(requests)} requests; give one each")
        for caption, request in zip(captions, requests, strict=True):
            self._keep((str(request["image_id"]), str(request["style"])), (caption, tuple(request["references"])))

    def merge(self, other: "ImageCaptionMetric") -> None:
        """Take over what another rank gathered."""
        for key, value in other._found.items():
            self._keep(key, value)

    def evaluate(self) -> dict[str, float]:
        """Metric -> score of all captions together; metrics that cannot be had are left out."""
        if not self._found:
            raise ValueError(f"{MODULE_NAME}: no captions were added; is the evaluation split empty?")
        keys = sorted(self._found)  # one order, however the captions were spread over ranks
        scores = score_captions(
            [self._found[key][0] for key in keys],
            [self._found[key][1] for key in keys],
            ids=[f"{image} ({style})" for image, style in keys],
            **self._how,
        ).scores
        return {name: score for name, score in scores.items() if score is not None}

    def _keep(self, key: tuple[str, str], value: tuple[str, tuple[str, ...]]) -> None:
        # Of two different captions of one request the same one stays, whichever rank comes first.
        self._found[key] = min(value, self._found.get(key, value))
