"""Our model and pipeline in ModelScope's registries; importing this module registers them, and the preprocessor.

`Model.from_pretrained(directory)` and `pipeline(Tasks.image_captioning, model=directory)` then work on what
`save_directory` wrote.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from modelscope.models.base import TorchModel
from modelscope.models.builder import MODELS
from modelscope.outputs import OutputKeys
from modelscope.pipelines.base import Pipeline
from modelscope.pipelines.builder import PIPELINES
from modelscope.utils.constant import Tasks
from torch import Tensor
from transformers.modeling_outputs import Seq2SeqLMOutput

from models.ofa.checkpoints import load_model
from models.ofa.saving import ENDINGS, GENERATION, GUIDANCE, MODEL, PIPELINE
from preprocessors.collate import collate
from preprocessors.stylish import OfaStylishImageCaptioningPreprocessor
from tasks.captioning.decoding import Guidance, decode_prompts
from tasks.hub import keep_local_directories_off_the_hub

__all__ = ["OfaStylishImageCaptioningPreprocessor", "StylishCaptioningPipeline", "StylishOFA"]


@MODELS.register_module(Tasks.image_captioning, module_name=MODEL)
class StylishOFA(TorchModel):
    """An `OFAModel`, its attribute `model`, as ModelScope expects models."""

    def __init__(self, model_dir: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(model_dir, *args, **kwargs)
        self.model = load_model(model_dir)

    def forward(self, **inputs: Tensor) -> Seq2SeqLMOutput:
        """As `OFAModel.forward`."""
        return self.model(**inputs)


@PIPELINES.register_module(Tasks.image_captioning, module_name=PIPELINE)
class StylishCaptioningPipeline(Pipeline):
    """`{"image": path, picture or array, "style": name}` -> `{"caption": [text]}`; a list gives a list.

    Settings of `beam_search` and of guidance come from the checkpoint; those given in a call win. With `batch_size` a
    list is captioned that many at a time.
    """

    def _sanitize_parameters(self, **parameters: Any) -> tuple[dict, dict, dict]:
        known = (*GENERATION, *GUIDANCE, ENDINGS)
        unknown = parameters.keys() - set(known)
        if unknown:
            raise ValueError(f"unknown setting {', '.join(sorted(unknown))}: choose among {', '.join(known)}")
        return {}, parameters, {}

    def _batch(self, data_list: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return collate(data_list)

    def _collate_fn(self, data: Mapping[str, Any]) -> dict[str, Any]:
        batch = data if "input_ids" in data else collate([data])
        return {name: value.to(self.device) if isinstance(value, Tensor) else value for name, value in batch.items()}

    def forward(self, inputs: Mapping[str, Any], **settings: Any) -> dict[str, list[str]]:
        """The best caption of each row of a batch."""
        search = dict(self.cfg.pipeline.generation) | settings
        guidance = Guidance(*(search.pop(name, 0.0) for name in GUIDANCE))
        guidance.check(self.preprocessor.style_map)
        found = decode_prompts(self.model.model, self.preprocessor.builder, inputs, guidance, search)
        # A model whose numbers have run away finishes no caption.
        tokens = [hypotheses[0].tokens.tolist() if hypotheses else [] for hypotheses in found]
        texts = [self.preprocessor.tokenizer.decode(row, skip_special_tokens=True) for row in tokens]
        return {OutputKeys.CAPTION: [" ".join(text.split()) for text in texts]}

    def postprocess(self, inputs: Mapping[str, Any], **_: Any) -> dict[str, list[str]]:
        """ModelScope hands over the one list of a single input, or one text of a batch's."""
        caption = inputs[OutputKeys.CAPTION]
        return {OutputKeys.CAPTION: caption if isinstance(caption, list) else [caption]}


keep_local_directories_off_the_hub()
