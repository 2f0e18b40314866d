"""The encoder: words and boxes through their own layers, then through the cross-modality layers.

With causal attention the first layer of each stream that has a branch asks a dictionary; two linear maps join the
branches to the streams at the end.
"""

import torch
from torch import Tensor, nn
from transformers.models.lxmert.modeling_lxmert import LxmertVisualFeatureEncoder

from models.lxmert.configuration import LxmertConfig
from models.lxmert.layers import CrossLayer, Layer, Memory, Stream
from models.lxmert.layout import Layout


class Encoder(nn.Module):
    """Names of parts are transformers' and, of what CATT adds, the original's.

    `MV` [1, E, H] is the dictionary that boxes look at, `ML` that of words.
    """

    def __init__(self, config: LxmertConfig):
        super().__init__()
        self.config = config
        if config.is_causal:
            self.MV = nn.Parameter(torch.empty(1, config.dictionary_boxes, config.hidden_size))
            self.ML = nn.Parameter(torch.empty(1, config.dictionary_words, config.hidden_size))
            self.fc_visn = nn.Linear(2 * config.hidden_size, config.hidden_size)
            self.fc_lang = nn.Linear(2 * config.hidden_size, config.hidden_size)
        self.visn_fc = LxmertVisualFeatureEncoder(config)
        self.layer = _layers(config, config.l_layers)
        self.x_layers = nn.ModuleList(
            CrossLayer(config, own_branch=config.has_own_branch) for _ in range(config.x_layers)
        )
        self.r_layers = _layers(config, config.r_layers)

    def forward(
        self, words: Stream, visual_feats: Tensor, visual_pos: Tensor, boxes_at: Layout, *, first_only: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Words and boxes to their final states.

        Args:
            words: embedded. There may be several images to each sentence: of image i it is sentence i // (images per
                sentence), whose language layers run once.
            visual_feats, visual_pos: [B, V, F] and [B, V, 4].
            boxes_at: where the boxes are that take part.
            first_only: only the first word of each example is wanted: [B, 1, H] and None.
        """
        config = self.config
        seen = self.visn_fc(boxes_at.hold(visual_feats), boxes_at.hold(visual_pos))
        # Words that ask the boxes' memory themselves need no memory of their own, unless boxes ask for it.
        words_need = not (first_only and config.cross_type == "g2l" and config.causal_attention != "ft_fixed")
        words = self._read(self.layer, words, self.ML if config.is_causal and words_need else None)
        boxes = self._read(self.r_layers, Stream(seen, boxes_at), self.MV if config.is_causal else None)
        words = words.repeated(boxes_at.batch // words.at.batch)
        for layer in self.x_layers[:-1]:
            words, boxes = self._cross(layer, words, boxes)
        return self._last(words, boxes, first_only)

    def _read(self, layers: nn.ModuleList, stream: Stream, dictionary: Tensor | None) -> Stream:
        """A stream through the layers of its own."""
        states, at, _ = stream
        memory = None if dictionary is None else Memory(dictionary[0], None)
        for layer in layers:
            assert isinstance(layer, Layer)
            if memory is not None and (layer.own_branch or self.config.causal_attention == "ft_same"):
                states, memory = layer.with_memory(states, at, memory)
            else:
                states = layer(states, at)
        return Stream(states, at, memory)

    def _cross(self, layer: nn.Module, words: Stream, boxes: Stream) -> tuple[Stream, Stream]:
        """A cross-modality layer that is not the last: the branch's work would be lost but with "ft_fixed"."""
        assert isinstance(layer, CrossLayer)
        words_memory, boxes_memory = words.memory, boxes.memory
        if self.config.causal_attention == "ft_fixed":
            words_memory = Memory(layer.words_memory(words, boxes), words.at)
            boxes_memory = Memory(layer.boxes_memory(words, boxes), boxes.at)
        return (
            Stream(layer.words(words, boxes), words.at, words_memory),
            Stream(layer.boxes(words, boxes), boxes.at, boxes_memory),
        )

    def _last(self, words: Stream, boxes: Stream, first_only: bool) -> tuple[Tensor, Tensor | None]:
        layer = self.x_layers[-1]
        assert isinstance(layer, CrossLayer)
        language = layer.words(words, boxes, first_only=first_only)
        vision = None if first_only else layer.boxes(words, boxes)
        if self.config.is_causal:
            found = layer.words_memory(words, boxes, first_only=first_only)
            language = self.fc_lang(torch.cat([language, found], -1))
            if vision is not None:
                vision = self.fc_visn(torch.cat([vision, layer.boxes_memory(words, boxes)], -1))
        return language, vision


def _layers(config: LxmertConfig, count: int) -> nn.ModuleList:
    """Layers of which, in "ft", the last has a branch of its own, or every one has with `ft_large`."""
    own = [config.has_own_branch and (config.ft_large or number == count - 1) for number in range(count)]
    return nn.ModuleList(Layer(config, own_branch=branch) for branch in own)
