"""LXMERT for answers, pairs of images and pre-training: transformers' parts behind our own classes.

State-dict names are those of transformers' `LxmertForPreTraining` and `LxmertForQuestionAnswering`; `naming` has the
original's. Shapes: B examples, T words, V boxes, F numbers a box, H hidden.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import LxmertPreTrainedModel
from transformers.models.lxmert.modeling_lxmert import (
    LxmertEmbeddings,
    LxmertPooler,
    LxmertPreTrainingHeads,
    LxmertVisualAnswerHead,
    LxmertVisualObjHead,
)

from models.lxmert.configuration import LxmertConfig
from models.lxmert.encoder import Encoder
from models.lxmert.layers import Stream
from models.lxmert.layout import Layout, padded_to
from models.ofa.dropout import Dropout

#: Images of an NLVR2 example.
PAIR = 2


class Encoded(NamedTuple):
    """`language` [B, T, H] (0 at padding that was skipped), `vision` [B, V, H] and `pooled` [B, H]."""

    language: Tensor
    vision: Tensor
    pooled: Tensor


class Predictions(NamedTuple):
    """Logits of pre-training: words [n, vocabulary], matched [B, 2], answers [B, answers], and a table a visual loss.

    n words and m boxes are those that were asked for, in the order of the batch; `boxes` maps "obj", "attr" and "feat"
    to [m, classes or F].
    """

    words: Tensor
    matched: Tensor
    answers: Tensor | None
    boxes: dict[str, Tensor]


class LxmertBase(LxmertPreTrainedModel):
    """What all models share: the configuration's class and how weights start."""

    config_class = LxmertConfig
    config: LxmertConfig
    main_input_name = "input_ids"

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, Encoder) and module.config.is_causal:
            for dictionary in (module.MV, module.ML):
                nn.init.uniform_(dictionary, 0, 0.01)

    def _finish(self) -> None:
        """To be called last in the constructor of a whole model."""
        _use_quick_dropout(self)
        self.post_init()


class LxmertModel(LxmertBase):
    """Words and boxes to states."""

    def __init__(self, config: LxmertConfig):
        super().__init__(config)
        self.embeddings = LxmertEmbeddings(config)
        self.encoder = Encoder(config)
        self.pooler = LxmertPooler(config)
        self._finish()

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        assert isinstance(value, nn.Embedding)
        self.embeddings.word_embeddings = value

    def forward(
        self,
        input_ids: Tensor,
        visual_feats: Tensor,
        visual_pos: Tensor,
        attention_mask: Tensor | None = None,
        visual_attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        *,
        skip_padding: bool = True,
    ) -> Encoded:
        """The states of all words and boxes.

        Args:
            input_ids: [B, T]. `attention_mask` [B, T] is 1 at words, 0 at padding; `token_type_ids` [B, T].
            visual_feats: [B, V, F]; `visual_pos` [B, V, 4], the corners x1, y1, x2, y2 as shares of width and height.
            visual_attention_mask: [B, V], 0 at boxes that nobody may look at; they are computed all the same.
            skip_padding: leave the states of padding words 0; otherwise they are what the original computes there.

        Raises:
            ValueError: a sentence longer than the positions, or features, boxes and words that do not fit.
        """
        words = self._embedded(input_ids, attention_mask, token_type_ids, skip_padding)
        boxes_at = self._boxes_at(input_ids, visual_feats, visual_pos, visual_attention_mask, skip_padding=False)
        language, vision = self.encoder(words, visual_feats, visual_pos, boxes_at)
        assert vision is not None
        language = padded_to(words.at.grid(language), input_ids.shape[1])
        return Encoded(language, vision, self.pooler(language))

    def pooled(
        self,
        input_ids: Tensor,
        visual_feats: Tensor,
        visual_pos: Tensor,
        attention_mask: Tensor | None = None,
        visual_attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> Tensor:
        """`forward(...).pooled` alone, [B, H], without what it does not depend on; arguments as in `forward`.

        There may be a multiple of B images: see `Encoder.forward`.
        """
        words = self._embedded(input_ids, attention_mask, token_type_ids, True)
        boxes_at = self._boxes_at(input_ids, visual_feats, visual_pos, visual_attention_mask, skip_padding=True)
        first, _ = self.encoder(words, visual_feats, visual_pos, boxes_at, first_only=True)
        return self.pooler(first)

    def _embedded(self, ids: Tensor, mask: Tensor | None, types: Tensor | None, skip_padding: bool) -> Stream:
        if not ids.numel():
            raise ValueError(f"LXMERT: input_ids {list(ids.shape)} hold no word: give at least one sentence")
        if ids.shape[1] > self.config.max_position_embeddings:
            raise ValueError(
                f"LXMERT: a sentence of {ids.shape[1]} word pieces is longer than the model's "
                f"{self.config.max_position_embeddings} positions: truncate sentences to that many"
            )
        if mask is not None and mask.shape != ids.shape:
            raise ValueError(f"LXMERT: attention_mask {list(mask.shape)} does not fit input_ids {list(ids.shape)}")
        at = Layout.of(len(ids), ids.shape[1], mask, skip_padding=skip_padding)
        ids = ids[:, : at.length]
        types = torch.zeros_like(ids) if types is None else types[:, : at.length]
        return Stream(at.hold(self.embeddings(ids, types)), at)

    def _boxes_at(
        self, ids: Tensor, feats: Tensor, boxes: Tensor, mask: Tensor | None, *, skip_padding: bool
    ) -> Layout:
        width = self.config.visual_feat_dim
        if feats.ndim != 3 or feats.shape[-1] != width:
            raise ValueError(
                f"LXMERT: visual_feats {list(feats.shape)} must be [examples, boxes, {width}]: use the features that "
                f"the model was trained with, or set visual_feat_dim to {feats.shape[-1]} and start it anew"
            )
        if boxes.shape != (*feats.shape[:2], self.config.visual_pos_dim):
            raise ValueError(
                f"LXMERT: visual_pos {list(boxes.shape)} must hold {self.config.visual_pos_dim} numbers for each box "
                f"of visual_feats {list(feats.shape)}"
            )
        if mask is not None and mask.shape != feats.shape[:2]:
            raise ValueError(
                f"LXMERT: visual_attention_mask {list(mask.shape)} does not fit visual_feats {list(feats.shape)}"
            )
        if len(feats) % len(ids):
            raise ValueError(f"LXMERT: {len(ids)} sentences and {len(feats)} images: one image belongs to a sentence")
        return Layout.of(len(feats), feats.shape[1], mask, skip_padding=skip_padding)


class LxmertForAnswers(LxmertBase):
    """Answers of VQA or GQA: one score for each of `num_qa_labels` answers."""

    def __init__(self, config: LxmertConfig):
        super().__init__(config)
        self.lxmert = LxmertModel(config)
        self.answer_head = LxmertVisualAnswerHead(config, config.num_qa_labels)
        self._finish()

    def forward(self, input_ids: Tensor, visual_feats: Tensor, visual_pos: Tensor, **masks: Tensor | None) -> Tensor:
        """Logits [B, answers]; arguments as in `LxmertModel.pooled`. A box that is masked is not computed."""
        if len(visual_feats) != len(input_ids):
            raise ValueError(f"LXMERT: {len(input_ids)} questions and {len(visual_feats)} images: one image a question")
        return self.answer_head(self.lxmert.pooled(input_ids, visual_feats, visual_pos, **masks))


class _PairHead(nn.Module):
    """The original's head of NLVR2: the layers of an answer head, for the states of two images."""

    def __init__(self, config: LxmertConfig):
        super().__init__()
        self.logit_fc = LxmertVisualAnswerHead(config, PAIR).logit_fc
        width = PAIR * config.hidden_size
        self.logit_fc[0] = nn.Linear(width, width)

    def forward(self, pooled: Tensor) -> Tensor:
        return self.logit_fc(pooled)


class LxmertForPairs(LxmertBase):
    """NLVR2: is the sentence false (0) or true (1) of a left and a right image? The sentence's layers run once."""

    def __init__(self, config: LxmertConfig):
        super().__init__(config)
        self.lxmert = LxmertModel(config)
        self.pair_head = _PairHead(config)
        self._finish()

    def forward(
        self,
        input_ids: Tensor,
        visual_feats: Tensor,
        visual_pos: Tensor,
        attention_mask: Tensor | None = None,
        visual_attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> Tensor:
        """Logits [B, 2]; features [B, 2, V, F], boxes [B, 2, V, 4] and their mask [B, 2, V] are left, then right."""
        if visual_feats.ndim != 4 or visual_feats.shape[:2] != (len(input_ids), PAIR):
            raise ValueError(
                f"LXMERT: visual_feats {list(visual_feats.shape)} must be [{len(input_ids)}, {PAIR}, boxes, numbers]: "
                "each sentence needs the features of its left and of its right image"
            )
        if visual_pos.shape[:3] != visual_feats.shape[:3]:
            raise ValueError(
                f"LXMERT: visual_pos {list(visual_pos.shape)} does not fit visual_feats {list(visual_feats.shape)}"
            )
        mask = None if visual_attention_mask is None else visual_attention_mask.flatten(0, 1)
        pooled = self.lxmert.pooled(
            input_ids, visual_feats.flatten(0, 1), visual_pos.flatten(0, 1), attention_mask, mask, token_type_ids
        )
        return self.pair_head(pooled.view(len(input_ids), -1))


class LxmertForPretraining(LxmertBase):
    """Heads for masked words, matched sentences, objects, attributes, features and answers."""

    _tied_weights_keys = {"cls.predictions.decoder.weight": "lxmert.embeddings.word_embeddings.weight"}

    def __init__(self, config: LxmertConfig):
        super().__init__(config)
        self.lxmert = LxmertModel(config)
        self.cls = LxmertPreTrainingHeads(config)
        if config.task_obj_predict:
            self.obj_predict_head = LxmertVisualObjHead(config)
        if config.task_qa:
            self.answer_head = LxmertVisualAnswerHead(config, config.num_qa_labels)
        self._finish()

    def get_output_embeddings(self) -> nn.Linear:
        return self.cls.predictions.decoder

    def forward(
        self,
        input_ids: Tensor,
        visual_feats: Tensor,
        visual_pos: Tensor,
        attention_mask: Tensor | None = None,
        visual_attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        *,
        word_places: Tensor | None = None,
        box_places: Tensor | None = None,
    ) -> Predictions:
        """The predictions of all heads; inputs as in `LxmertModel.forward`.

        `word_places` [B, T] and `box_places` [B, V], bool, are where words and boxes are predicted: the head of words
        is wide, and few of them have a label. None: everywhere.
        """
        encoded = self.lxmert(
            input_ids, visual_feats, visual_pos, attention_mask, visual_attention_mask, token_type_ids
        )
        language = encoded.language.flatten(0, 1) if word_places is None else encoded.language[word_places]
        vision = encoded.vision.flatten(0, 1) if box_places is None else encoded.vision[box_places]
        words, matched = self.cls(language, encoded.pooled)
        answers = self.answer_head(encoded.pooled) if self.config.task_qa else None
        boxes = self.obj_predict_head(vision) if self.config.task_obj_predict else {}
        return Predictions(words, matched, answers, boxes)


def _use_quick_dropout(model: nn.Module) -> None:
    """transformers' parts draw a random number of torch's for each element; see `models.ofa.dropout`."""
    for module in model.modules():
        for name, part in module.named_children():
            if type(part) is nn.Dropout:
                setattr(module, name, Dropout(part.p))
