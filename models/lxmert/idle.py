"""Parameters that no gradient ever reaches: a task does not ask for all that a network can do.

For answers these are what only the boxes' last state depends on; in CATT's "ft" the branch of every cross-modality
layer but the last, and with "g2l" the dictionary that no used query reads.
"""

from typing import Any

import torch
from torch import Tensor

from models.lxmert.modeling import PAIR, LxmertBase, LxmertForPairs, LxmertForPretraining, LxmertModel


def idle_parameters(model: LxmertBase, *, heads: tuple[str, ...] | None = None) -> list[str]:
    """Names of the parameters that the outputs of `model` do not depend on, found in the graph of a tiny forward pass.

    Args:
        heads: of pre-training, the outputs that there are losses for: fields of `Predictions`, or the names of its
            tables of boxes; None is all of them.

    The mode of the model and torch's generators are left as they were.
    """
    outputs = _outputs(model, heads)
    used = {id(parameter) for output in outputs for parameter in _leaves(output)}
    return [name for name, parameter in model.named_parameters() if id(parameter) not in used]


def trained_parameters(model: LxmertBase, *, heads: tuple[str, ...] | None = None) -> dict[str, torch.nn.Parameter]:
    """The parameters that an optimizer needs: those that want a gradient and get one."""
    idle = set(idle_parameters(model, heads=heads))
    return {name: p for name, p in model.named_parameters() if p.requires_grad and name not in idle}


def freeze_idle(model: LxmertBase, *, heads: tuple[str, ...] | None = None) -> list[str]:
    """Let idle parameters ask for no gradient, so that data-parallel wrappers do not wait for one; their names."""
    idle = idle_parameters(model, heads=heads)
    for name in idle:
        model.get_parameter(name).requires_grad_(False)
    return idle


def _outputs(model: LxmertBase, heads: tuple[str, ...] | None) -> list[Tensor]:
    config, device = model.config, model.device
    images = (1, PAIR) if isinstance(model, LxmertForPairs) else (1,)
    inputs: dict[str, Any] = {
        "input_ids": torch.zeros(1, 2, dtype=torch.long, device=device),
        "visual_feats": torch.zeros(*images, 2, config.visual_feat_dim, device=device, dtype=model.dtype),
        "visual_pos": torch.zeros(*images, 2, config.visual_pos_dim, device=device, dtype=model.dtype),
    }
    was_training = model.training
    model.eval()  # no dropout: no random number is drawn
    try:
        with torch.enable_grad():
            found = model(**inputs)
    finally:
        model.train(was_training)
    if isinstance(model, LxmertForPretraining):
        named = {name: output for name, output in found._asdict().items() if isinstance(output, Tensor)} | found.boxes
        return [output for name, output in named.items() if heads is None or name in heads]
    return list(found) if isinstance(model, LxmertModel) else [found]


def _leaves(output: Tensor) -> list[Tensor]:
    """The tensors at the leaves of the graph that made `output`."""
    waiting: list[Any] = [output.grad_fn] if output.grad_fn is not None else []
    seen, leaves = set(), []
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            leaves.append(node.variable)
        waiting += [following for following, _ in node.next_functions if following is not None]
    return leaves
