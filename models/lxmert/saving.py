"""A directory with a model: `config.json`, `model.safetensors`, its vocabulary and its answers."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor
from transformers import BertTokenizer

from models.lxmert.answers import check_answers
from models.lxmert.modeling import LxmertBase, LxmertForPairs, LxmertModel
from models.wordpiece import check_vocabulary, save_wordpiece

WEIGHTS_FILE, ANSWERS_FILE = "model.safetensors", "answers.json"
_TIED = "cls.predictions.decoder.weight"


def write_model(
    directory: str | Path,
    model: LxmertBase,
    tokenizer: BertTokenizer,
    *,
    answers: Sequence[str] | None = None,
    weights: Mapping[str, Tensor] | None = None,
) -> None:
    """Write what inference needs into a folder that exists.

    transformers reads it, too, as its `LxmertForPreTraining`, `LxmertForQuestionAnswering` or `LxmertModel`, where
    there is no causal attention and no head for pairs.

    Args:
        answers: the list that the answer head scores.
        weights: in place of the model's own, which may be shards.

    Raises:
        ValueError: the vocabulary or the answers are of another size than the model's.
    """
    folder = Path(directory)
    check_vocabulary(tokenizer, model.config.vocab_size)
    if answers is not None and not isinstance(model, LxmertForPairs | LxmertModel):
        check_answers(answers, model.config.num_qa_labels)
        (folder / ANSWERS_FILE).write_text(json.dumps(list(answers), ensure_ascii=False, indent=0) + "\n", "utf-8")
    model.config.architectures = [type(model).__name__]
    model.config.dtype = str(model.dtype).removeprefix("torch.")
    model.config.save_pretrained(folder)
    save_wordpiece(tokenizer, folder)
    state = model.state_dict() if weights is None else weights
    once = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items() if name != _TIED}
    save_file(once, folder / WEIGHTS_FILE, metadata={"format": "pt"})
