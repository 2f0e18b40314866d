"""VisualBERT with its heads; parameters have transformers' names.

Shapes: B rows, C choices, T words, N regions, L = T + N, D width, V entries of the vocabulary, A answers, M masked
words.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.visual_bert.modeling_visual_bert import (
    VisualBertEmbeddings,
    VisualBertPooler,
    VisualBertPreTrainedModel,
    VisualBertPreTrainingHeads,
)

from models.ofa.dropout import Dropout
from models.visualbert.checks import answer_positions_of, check_inputs
from models.visualbert.configuration import VisualBERTConfig
from models.visualbert.encoding import Layer, embed, run_layers, run_layers_for
from models.visualbert.losses import label_loss, soft_target_loss


@dataclass
class VisualBERTOutput:
    """`loss` is the sum of `losses`, None without targets.

    `logits` are [B, A] with head "vqa", [B, 2] with "nlvr2" and for the sentence-image task, [B, C] with "vcr".
    `word_logits` [M, V] and `word_labels` [M] are those of the masked words, row by row.
    """

    loss: Tensor | None
    logits: Tensor
    losses: dict[str, Tensor] = field(default_factory=dict)
    word_logits: Tensor | None = None
    word_labels: Tensor | None = None


class Encoder(nn.Module):
    """The layers, under transformers' names."""

    def __init__(self, config: VisualBERTConfig):
        super().__init__()
        self.layer = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))


class Body(VisualBertPreTrainedModel):
    """What all heads share: transformers' `VisualBertModel`, module by module, with layers that skip padding."""

    config: VisualBERTConfig

    def __init__(self, config: VisualBERTConfig):
        super().__init__(config)
        self.embeddings = VisualBertEmbeddings(config)
        self.encoder = Encoder(config)
        self.pooler = VisualBertPooler(config)
        if config.bypass_transformer:
            self.additional_layer = Layer(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embeddings.word_embeddings


class VisualBERTModel(nn.Module):
    """The original's network (uclanlp/visualbert) over transformers' modules, with the head that `config` names.

    Args:
        answer_loss: of head "vqa": "kl" or "bce", see `losses.soft_target_loss`.
    """

    #: `VisualBertPreTrainingHeads`, or a task's `nn.Linear`.
    cls: Any

    def __init__(self, config: VisualBERTConfig, *, answer_loss: str = "kl"):
        super().__init__()
        self.config = config
        self.answer_loss = answer_loss
        self.visual_bert = Body(config)
        self.dropout = Dropout(config.hidden_dropout_prob)
        outputs = 1 if config.head == "vcr" else config.num_labels or 0
        words = config.head == "pretraining"
        self.cls = VisualBertPreTrainingHeads(config) if words else nn.Linear(config.hidden_size, outputs)
        _use_quick_dropout(self)
        self._initialise()
        self.tie_weights()

    def _initialise(self) -> None:
        """BERT's initial weights for the head; the visual tables start as copies of the words' tables."""
        for module in self.cls.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=self.config.initializer_range)
                nn.init.zeros_(module.bias)
        if self.config.special_visual_initialize:
            self.copy_text_tables()

    @torch.no_grad()
    def copy_text_tables(self) -> None:
        """Start the visual position and type tables from the words' tables."""
        embeddings = self.visual_bert.embeddings
        embeddings.visual_position_embeddings.weight.copy_(embeddings.position_embeddings.weight)
        embeddings.visual_token_type_embeddings.weight.copy_(embeddings.token_type_embeddings.weight)

    def tie_weights(self) -> None:
        """Masked words are predicted with the table of word embeddings."""
        if isinstance(self.cls, VisualBertPreTrainingHeads):
            self.cls.predictions.decoder.weight = self.visual_bert.embeddings.word_embeddings.weight
            self.cls.predictions.decoder.bias = self.cls.predictions.bias

    def forward(
        self,
        *,
        input_ids: Tensor,
        text_mask: Tensor,
        segment_ids: Tensor,
        features: Tensor,
        box_mask: Tensor,
        box_types: Tensor | None = None,
        alignment: Tensor | None = None,
        answer_positions: Tensor | None = None,
        labels: Tensor | None = None,
        word_labels: Tensor | None = None,
    ) -> VisualBERTOutput:
        """Logits of the head and, where there are targets, losses.

        Args:
            input_ids, text_mask, segment_ids: [B, T], with head "vcr" [B, C, T]; the mask is 1 at real words. Padding
                stands at the end.
            features, box_mask: [B, N, config.visual_embedding_dim] and [B, N]; all choices see the same regions.
            box_types: [B, N]; 0 and 1 for the regions of a first and a second image. All 0 unless given.
            alignment: [B, N or more, K], with head "vcr" [B, C, N or more, K]: the positions of the words that name a
                region, padded with -1.
            answer_positions: [B], where head "vqa" reads the answer; the last word but one unless given, which is the
                `[MASK]` of `[CLS] … ? [MASK] [SEP]`.
            labels: "vqa": soft targets [B, A]; "nlvr2" and "vcr": classes [B]; "pretraining": 1 where the text belongs
                to the image [B]. A negative class is none.
            word_labels: [B, T], the words that were masked, -1 at all others; for head "pretraining".

        Raises:
            ValueError: features of another width, an alignment or an answer position outside the text, a text longer
                than the position table, targets of another shape.
        """
        inputs: dict[str, Any] = {"input_ids": input_ids, "text_mask": text_mask, "segment_ids": segment_ids}
        inputs |= {"features": features, "box_mask": box_mask, "box_types": box_types, "alignment": alignment}
        check_inputs(self.config, **inputs)
        if self.config.head == "pretraining":
            return self._pretraining(inputs, word_labels, labels)
        if self.config.head == "vqa":
            read = answer_positions_of(text_mask, answer_positions)
            states = self._states(**inputs, read=read[:, None])[:, 0]
        else:
            states = self.visual_bert.pooler(self._first_states(**inputs))
        logits = self.cls(self.dropout(states))
        if self.config.head == "vcr":
            logits = logits.view(input_ids.shape[:2])
        if labels is None:
            return VisualBERTOutput(None, logits)
        if self.config.head == "vqa":
            self._check_targets(labels, logits)
            loss = soft_target_loss(logits, labels, kind=self.answer_loss)
        else:
            loss = label_loss(logits, labels)
        return VisualBERTOutput(loss, logits, {"answer": loss})

    def _pretraining(self, inputs: dict[str, Any], word_labels: Tensor | None, labels: Tensor | None):
        """Masked words and whether the text belongs to the image: computed only where something is asked."""
        if word_labels is None:
            first, losses, words = self._first_states(**inputs), {}, {}
        else:
            positions, masked = masked_positions(word_labels)
            # the first word is read beside them
            states = self._states(**inputs, read=F.pad(positions, (1, 0)))
            first = states[:, :1]
            word_logits = self.cls.predictions(states[:, 1:][masked])
            asked = word_labels.gather(1, positions)[masked]
            losses = {"masked_words": label_loss(word_logits, asked)}
            words = {"word_logits": word_logits, "word_labels": asked}
        logits = self.cls.seq_relationship(self.visual_bert.pooler(first))
        if labels is not None:
            losses["matches"] = label_loss(logits, labels)
        loss = torch.stack(list(losses.values())).sum() if losses else None
        return VisualBERTOutput(loss, logits, losses, **words)

    def _check_targets(self, targets: Tensor, logits: Tensor) -> None:
        if targets.shape != logits.shape:
            raise ValueError(
                f"soft targets are {list(targets.shape)}, but the model has {list(logits.shape)} logits: use the "
                "answer list that the head was made for"
            )

    @property
    def _layers(self) -> list[Any]:
        return list(self.visual_bert.encoder.layer)

    def _first_states(self, **inputs: Any) -> Tensor:
        """The first word's state of each text, [B, 1, D] or [B * C, 1, D]."""
        rows = inputs["input_ids"].shape[:-1].numel()
        return self._states(**inputs, read=inputs["input_ids"].new_zeros(rows, 1))

    def _states(self, *, read: Tensor, **inputs: Any) -> Tensor:
        """The states at the positions `read` [B, Q] -> [B, Q, D]."""
        x, mask = self._embedded(**inputs)
        if not self.config.bypass_transformer:
            return run_layers_for(self._layers, x, mask, read)
        return run_layers_for([self.visual_bert.additional_layer], self._bypass(x, mask, inputs, True), mask, read)

    def _bypass(self, x: Tensor, mask: Tensor, inputs: dict[str, Any], skip_padding: bool) -> Tensor:
        """Words through the layers, regions past them."""
        words = inputs["input_ids"].shape[-1]
        text = run_layers(self._layers, x[:, :words], mask[:, :words], skip_padding=skip_padding)
        return torch.cat([text, x[:, words:]], dim=1)

    def _embedded(self, **inputs: Any) -> tuple[Tensor, Tensor]:
        """Embeddings [B, L, D] and mask [B, L]; the rows of choices are laid out one after the other."""
        module = self.visual_bert.embeddings
        input_ids = inputs["input_ids"].flatten(0, -2)
        choices = len(input_ids) // len(inputs["features"])
        # projected once an image, whatever the number of texts about it
        projected = module.visual_projection(inputs["features"].to(module.visual_projection.weight.dtype))
        types, alignment = inputs["box_types"], inputs["alignment"]
        mask = torch.cat([inputs["text_mask"].flatten(0, -2), repeated(inputs["box_mask"], choices)], dim=1)
        x = embed(
            module,
            input_ids,
            inputs["segment_ids"].flatten(0, -2),
            repeated(projected, choices),
            None if types is None else repeated(types, choices),
            None if alignment is None else alignment.flatten(0, -3),
        )
        return x, mask

    @torch.no_grad()
    def everything(self, *, answer_positions: Tensor | None = None, **inputs: Any) -> dict[str, Tensor]:
        """Every output at every position, padding included: for comparisons. The arguments of `forward` but targets.

        `sequence` [B, L, D], `pooled` [B, D], `logits` as `forward`, and with head "pretraining" `word_logits`
        [B, L, V]. B counts every choice here.
        """
        inputs = {"box_types": None, "alignment": None} | inputs
        check_inputs(self.config, **inputs)
        x, mask = self._embedded(**inputs)
        if self.config.bypass_transformer:
            x = self._bypass(x, mask, inputs, False)
            sequence = run_layers([self.visual_bert.additional_layer], x, mask, skip_padding=False)
        else:
            sequence = run_layers(self._layers, x, mask, skip_padding=False)
        pooled = self.visual_bert.pooler(sequence)
        outputs = {"sequence": sequence, "pooled": pooled}
        if isinstance(self.cls, VisualBertPreTrainingHeads):
            return outputs | {
                "word_logits": self.cls.predictions(sequence),
                "logits": self.cls.seq_relationship(pooled),
            }
        if self.config.head == "vqa":
            positions = answer_positions_of(inputs["text_mask"], answer_positions)
            read = sequence[torch.arange(len(sequence), device=sequence.device), positions]
        else:
            read = pooled
        logits = self.cls(self.dropout(read))
        return outputs | {"logits": logits.view(inputs["input_ids"].shape[:2]) if self.config.head == "vcr" else logits}


def _use_quick_dropout(model: nn.Module) -> None:
    """transformers' modules draw a random number of torch's for each element; see `models.ofa.dropout`."""
    for module in list(model.modules()):
        for name, part in module.named_children():
            if type(part) is nn.Dropout:
                setattr(module, name, Dropout(part.p))


def masked_positions(word_labels: Tensor) -> tuple[Tensor, Tensor]:
    """Where words are masked: positions [B, Q], and which of them count [B, Q]; Q is the most in a row.

    Rows with fewer have 0 in their last places.
    """
    chosen = word_labels >= 0
    most = int(chosen.sum(1).max())
    # a stable sort brings the masked positions to the front in their order
    positions = chosen.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :most]
    masked = chosen.gather(1, positions)
    return positions * masked, masked


def repeated(x: Tensor, times: int) -> Tensor:
    """Each row `times` times over, one after the other."""
    return x if times == 1 else x.repeat_interleave(times, dim=0)
