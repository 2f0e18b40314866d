"""Answerers in ModelScope's registries; importing this module registers model, preprocessor and pipeline.

`Model.from_pretrained(directory)` and `pipeline(Tasks.visual_question_answering, model=directory)` then work on what
training wrote. A local directory asks no hub.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from modelscope.models.base import TorchModel
from modelscope.models.builder import MODELS
from modelscope.outputs import OutputKeys
from modelscope.pipelines.base import Pipeline
from modelscope.pipelines.builder import PIPELINES
from modelscope.preprocessors.base import Preprocessor
from modelscope.preprocessors.builder import PREPROCESSORS
from modelscope.utils.constant import Fields, Tasks
from torch import Tensor

from data.features import Regions
from models.towers.named import is_tower, tower_named
from preprocessors.images import load_image
from tasks.answering.asking import best_answers
from tasks.answering.models import Settings, open_answerer
from tasks.answering.saving import MODEL, PIPELINE, PREPROCESSOR
from tasks.hub import keep_local_directories_off_the_hub

TOP = 5


@MODELS.register_module(Tasks.visual_question_answering, module_name=MODEL)
class AnswererModel(TorchModel):
    """An answerer's network, its attribute `model`, as ModelScope expects models; `answerer` is the whole of it."""

    def __init__(self, model_dir: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(model_dir, *args, **kwargs)
        self.answerer = open_answerer(Path(model_dir))
        self.model = self.answerer.model

    def forward(self, **inputs: Any) -> Tensor:
        """Logits [B, answers] of what `collate` of the network's reader made."""
        return self.answerer.logits(self.model, inputs)


@PREPROCESSORS.register_module(Fields.multi_modal, module_name=PREPROCESSOR)
class QuestionPreprocessor(Preprocessor):
    """`{"text": question, "image": picture}` or `{"text", "features", "boxes"?}` to an item of the network's reader.

    A picture (path, PIL image or array) needs a model whose features a tower of this project made. `features` is
    [regions, numbers], of a pair a list of two; `boxes` [regions, 4] are shares of width and height, and may be left
    out where the features are a square grid. A pair of pictures is a list of two.
    """

    def __init__(self, model_dir: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.settings = Settings.read(Path(model_dir))
        self.reader = open_answerer(Path(model_dir)).reader
        self._tower: Any = None

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Raises ValueError for an input without question or picture, and features that the model cannot read."""
        text = data.get("text", data.get("question"))
        if not isinstance(text, str):
            raise ValueError("an input must have its question under 'text'")
        if "features" in data:
            boxes = data.get("boxes")
            features = _list(data["features"], 2)
            places = [None] * len(features) if boxes is None else _list(boxes, 2)
            images = [_given(one, place) for one, place in zip(features, places, strict=True)]
        elif "image" in data:
            pictures = data["image"] if isinstance(data["image"], list) else [data["image"]]
            images = [self._seen(picture) for picture in pictures]
        else:
            raise ValueError("an input must have a picture under 'image', or its features under 'features'")
        return self.reader(text, images)

    def _seen(self, picture: Any) -> Regions:
        detector, cells = self.settings.detector, self.settings.cells
        if not is_tower(detector) or cells is None:
            raise ValueError(
                f"this model reads features of {detector or 'an unknown detector'}, which cannot be made of a picture "
                "here: give them under 'features' and 'boxes'"
            )
        self._tower = self._tower or tower_named(detector)
        return self._tower.features(load_image(picture), "image", cells)


@PIPELINES.register_module(Tasks.visual_question_answering, module_name=PIPELINE)
class AnsweringPipeline(Pipeline):
    """An input of `QuestionPreprocessor` -> `{"text": answer, "labels": [answers], "scores": [probabilities]}`."""

    def _sanitize_parameters(self, **parameters: Any) -> tuple[dict, dict, dict]:
        unknown = parameters.keys() - {"top"}
        if unknown:
            raise ValueError(f"unknown setting {', '.join(sorted(unknown))}: there is top")
        return {}, parameters, {}

    def _batch(self, data_list: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return self.model.answerer.reader.collate(data_list)

    def _collate_fn(self, data: Mapping[str, Any]) -> dict[str, Any]:
        batch = data if "input_ids" in data else self.model.answerer.reader.collate([data])
        return {name: value.to(self.device) if isinstance(value, Tensor) else value for name, value in batch.items()}

    @torch.no_grad()
    def forward(self, inputs: Mapping[str, Any], top: int = TOP) -> dict[str, list[Any]]:
        """The best answers of each row of a batch."""
        found = best_answers(self.model(**inputs), self.model.answerer, top)
        return {
            OutputKeys.TEXT: [one.answer for one in found],
            OutputKeys.LABELS: [[answer for answer, _ in one.top] for one in found],
            OutputKeys.SCORES: [[share for _, share in one.top] for one in found],
        }

    def postprocess(self, inputs: Mapping[str, Any], **_: Any) -> dict[str, Any]:
        """ModelScope hands over the lists of a single input, or one input's part of a batch's."""
        single = isinstance(inputs[OutputKeys.TEXT], list)
        return {name: value[0] if single else value for name, value in inputs.items()}


def _list(arrays: Any, dimensions: int) -> list[np.ndarray]:
    """One array, or the two of a pair."""
    if isinstance(arrays, list) and arrays and np.ndim(arrays[0]) == dimensions:
        return [np.asarray(one, dtype=np.float32) for one in arrays]
    whole = np.asarray(arrays, dtype=np.float32)
    return [whole] if whole.ndim == dimensions else list(whole)


def _given(features: np.ndarray, boxes: np.ndarray | None) -> Regions:
    if boxes is not None:
        return Regions("features", features, boxes, (1, 1))
    side = round(len(features) ** 0.5)
    if side * side != len(features):
        raise ValueError(f"features of {len(features)} regions are no square grid: give their boxes under 'boxes'")
    return Regions("features", features, grid=(side, side))


keep_local_directories_off_the_hub()
