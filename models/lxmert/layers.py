"""The layers of LXMERT and their branch over a dictionary (CATT).

What a branch carries is a `Memory`: at first the dictionary, then what the rows of the stream found, one row each.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers.models.lxmert.modeling_lxmert import LxmertIntermediate, LxmertOutput

from models.lxmert.attention import CrossAttention, SelfAttention
from models.lxmert.configuration import LxmertConfig
from models.lxmert.layout import Layout


class Memory(NamedTuple):
    """`states` of the layout `at`, or a dictionary [E, H] where that is None."""

    states: Tensor
    at: Layout | None


class Stream(NamedTuple):
    """Words or boxes: `states` of the layout `at`, and what they found in the dictionary."""

    states: Tensor
    at: Layout
    memory: Memory | None = None

    def repeated(self, times: int) -> "Stream":
        """Every example `times` times."""
        at, states = self.at.repeated(self.states, times)
        if self.memory is None or self.memory.at is None:
            return Stream(states, at, self.memory)
        return Stream(states, at, Memory(self.at.repeated(self.memory.states, times)[1], at))


class Layer(nn.Module):
    """A language or visual layer: BERT's. `own_branch`: it has a second set of weights for the dictionary."""

    def __init__(self, config: LxmertConfig, *, own_branch: bool = False):
        super().__init__()
        self.attention = SelfAttention(config)
        self.intermediate = LxmertIntermediate(config)
        self.output = LxmertOutput(config)
        self.own_branch = own_branch
        if own_branch:
            self.FTattention = CrossAttention(config)
            self.FTintermediate = LxmertIntermediate(config)
            self.FToutput = LxmertOutput(config)

    def forward(self, states: Tensor, at: Layout) -> Tensor:
        return self._feed(self.attention(states, at))

    def with_memory(self, states: Tensor, at: Layout, memory: Memory) -> tuple[Tensor, Memory]:
        """The layer, and the branch: the same rows ask the memory instead of each other."""
        if self.own_branch:
            found = self.FTattention(states, at, *memory)
            found = self.FToutput(self.FTintermediate(found), found)
            return self(states, at), Memory(found, at)
        attention = self.attention.self
        query = attention.query(states)
        # The weights are shared: both halves go through what follows as one batch.
        found = torch.cat([attention.look(query, at, states, at), attention.look(query, at, *memory)])
        states, found = self._feed(self.attention.output(found, torch.cat([states, states]))).chunk(2)
        return states, Memory(found, at)

    def _feed(self, attended: Tensor) -> Tensor:
        return self.output(self.intermediate(attended), attended)


class CrossLayer(nn.Module):
    """A cross-modality layer; `own_branch`: it has a second set of weights for what was found in the dictionaries."""

    def __init__(self, config: LxmertConfig, *, own_branch: bool = False):
        super().__init__()
        self.from_stream = config.cross_type == "g2l"
        self.own_branch = own_branch
        for prefix in ("", "M_") if own_branch else ("",):
            parts = {
                "visual_attention": CrossAttention(config),
                "lang_self_att": SelfAttention(config),
                "visn_self_att": SelfAttention(config),
                "lang_inter": LxmertIntermediate(config),
                "lang_output": LxmertOutput(config),
                "visn_inter": LxmertIntermediate(config),
                "visn_output": LxmertOutput(config),
            }
            for name, part in parts.items():
                self.add_module(prefix + name, part)

    def words(self, words: Stream, boxes: Stream, *, first_only: bool = False) -> Tensor:
        """The words after they looked at the boxes and at each other; `first_only`: [B, 1, H] of the first of each."""
        return self._side("", "lang", words.states, words.at, Memory(boxes.states, boxes.at), first_only)

    def boxes(self, words: Stream, boxes: Stream) -> Tensor:
        """The boxes after they looked at the words and at each other."""
        return self._side("", "visn", boxes.states, boxes.at, Memory(words.states, words.at), False)

    def words_memory(self, words: Stream, boxes: Stream, *, first_only: bool = False) -> Tensor:
        """The branch of the words: they, or what they found, look at what the boxes found."""
        return self._branch("lang", words, boxes, first_only)

    def boxes_memory(self, words: Stream, boxes: Stream) -> Tensor:
        """The branch of the boxes."""
        return self._branch("visn", boxes, words, False)

    def _branch(self, side: str, asking: Stream, asked: Stream, first_only: bool) -> Tensor:
        assert asked.memory is not None
        states = asking.states
        if not self.from_stream:
            assert asking.memory is not None
            states = asking.memory.states
        prefix = "M_" if self.own_branch else ""
        return self._side(prefix, side, states, asking.at, asked.memory, first_only)

    def _side(self, prefix: str, side: str, states: Tensor, at: Layout, context: Memory, first_only: bool) -> Tensor:
        crossed = getattr(self, f"{prefix}visual_attention")(states, at, *context)
        own: SelfAttention = getattr(self, f"{prefix}{side}_self_att")
        attended = own.of_first(crossed, at) if first_only else own(crossed, at)
        inner = getattr(self, f"{prefix}{side}_inter")(attended)
        return getattr(self, f"{prefix}{side}_output")(inner, attended)
