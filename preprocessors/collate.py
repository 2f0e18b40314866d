"""Batches in three layers, so that no work is repeated: images, prompts of an image, captions of a prompt.

`B` images, `M` prompts (distinct pairs of image and style), `N` captions; `L` prompt length, `T` caption length. The
image tower runs once an image, the encoder once a prompt and the decoder once a caption; index vectors tie the layers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from models.ofa.tokenization import PAD


@dataclass(frozen=True)
class Asked:
    """What captions are asked for: the A distinct pairs of prompt and start, in the order of their first captions.

    Attributes:
        prompts: [A] the row of each one's prompt.
        starts: [A] the token that its captions start with.
        requests: [A] the request of its first caption.
        index: [N] which of them each caption answers.
    """

    prompts: list[int]
    starts: list[int]
    requests: list[Any]
    index: list[int]

    @classmethod
    def of(cls, encoder_index: Sequence[int], starts: Sequence[int], requests: Sequence[Any]) -> "Asked":
        """From the prompt, the start and the request of each caption."""
        pairs: dict[tuple[int, int], int] = {}
        index, first = [], []
        for pair, request in zip(zip(encoder_index, starts, strict=True), requests, strict=True):
            if pair not in pairs:
                pairs[pair] = len(pairs)
                first.append(request)
            index.append(pairs[pair])
        return cls([row for row, _ in pairs], [start for _, start in pairs], first, index)


def collate(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Join items of a preprocessor, each one image with its prompts and captions, into a batch.

    An item holds `patch_image` float [3,H,W], `patch_mask` bool, `prompts` (long [L_i] with bos and eos), `captions`
    (pairs of the prompt's row and long [T_i] with eos), `starts` (the token that each caption starts with) and
    `requests` (one mapping a caption); where there are `tasks`, also `decoder_inputs` (what the decoder reads of each
    caption, long [T_i], where it is not the caption after its start, else None). The batch holds

    - `patch_images` float [B,3,H,W], `patch_masks` bool [B] (false: the image is absent);
    - `padded`: whether an image is absent or prompts differ in length, a bool: known here without asking a device;
    - `input_ids` long [M,L], padded; `image_index` long [M], the image of each prompt;
    - `decoder_input_ids` and `target` long [N,T], padded: the caption after its start, and before eos;
      `encoder_index` long [N], the prompt of each caption; `even`, whether each prompt has as many captions as every
      other, which stand together; `target_index` long [n], the places of `target`, flat, that hold a token;
    - `requests`, a list of N mappings, and `asked`, what they ask for (`Asked`), which stay on the CPU;
    - `task` long [N], the position of each caption's task in `style_tasks.TASKS`, where items have `tasks`.

    Raises `ValueError` when images of one batch differ in size.
    """
    assert items, "a loader makes no empty batch"
    sizes = {tuple(item["patch_image"].shape) for item in items}
    if len(sizes) > 1:
        raise ValueError(f"images of one batch differ in shape: {sorted(sizes)}; prepare all with one patch_image_size")
    prompts: list[Tensor] = []
    image_index: list[int] = []
    targets: list[Tensor] = []
    encoder_index: list[int] = []
    requests: list[Any] = []
    starts: list[int] = []
    given: list[Tensor | None] = []
    for row, item in enumerate(items):
        encoder_index += [len(prompts) + prompt_row for prompt_row, _ in item["captions"]]
        targets += [target for _, target in item["captions"]]
        requests += item["requests"]
        starts += item["starts"]
        given += item.get("decoder_inputs") or [None] * len(item["captions"])
        image_index += [row] * len(item["prompts"])
        prompts += item["prompts"]
    target = pad_sequence(targets, batch_first=True, padding_value=PAD)
    batch = {
        "patch_images": torch.stack([item["patch_image"] for item in items]),
        "patch_masks": torch.tensor([item["patch_mask"] for item in items], dtype=torch.bool),
        "padded": len({len(prompt) for prompt in prompts}) > 1 or not all(item["patch_mask"] for item in items),
        "image_index": torch.tensor(image_index, dtype=torch.long),
        "input_ids": pad_sequence(prompts, batch_first=True, padding_value=PAD),
        "encoder_index": torch.tensor(encoder_index, dtype=torch.long),
        "decoder_input_ids": shift_right(targets, starts, target.shape[1], given),
        "even": encoder_index == sorted(list(range(len(prompts))) * (len(targets) // len(prompts))),
        "target": target,
        "target_index": target.flatten().ne(PAD).nonzero().flatten(),
        "requests": requests,
        "asked": Asked.of(encoder_index, starts, requests),
    }
    if "tasks" in items[0]:
        batch["task"] = torch.tensor([task for item in items for task in item["tasks"]], dtype=torch.long)
    return batch


def shift_right(
    targets: Sequence[Tensor], starts: Sequence[int], length: int, given: Sequence[Tensor | None] = ()
) -> Tensor:
    """What the decoder reads to write `targets` (long [T_i] with eos): start, then all but the eos; [N, `length`].

    `given`: what it reads where that is something else.
    """
    shifted = torch.full((len(targets), length), PAD, dtype=torch.long)
    shifted[:, 0] = torch.tensor(starts)
    for row, target in enumerate(targets):
        own = given[row] if given else None
        if own is None:
            shifted[row, 1 : len(target)] = target[:-1]
        else:
            shifted[row, : len(own)] = own
    return shifted
