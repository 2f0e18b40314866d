"""Two models on the same batch: by how much their outputs differ. It knows no type of model."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Run = Callable[[nn.Module, Mapping[str, Any]], Any]


@dataclass(frozen=True, slots=True)
class Difference:
    """The largest and the mean absolute difference of one output; nan where exactly one side is not a number."""

    output: str
    shape: tuple[int, ...]
    largest: float
    mean: float


def compare_models(
    a: nn.Module,
    b: nn.Module,
    batch: Mapping[str, Any],
    *,
    run_a: Run | None = None,
    run_b: Run | None = None,
) -> list[Difference]:
    """Run both in evaluation mode on `batch`; one row an output that both have.

    Args:
        batch: keyword arguments of both models.
        run_a, run_b: (model, batch) -> outputs, for a model with other arguments or outputs.

    Raises:
        ValueError: the two have no output in common, or one of another shape.
    """
    return compare_outputs(outputs_of(a, batch, run_a), outputs_of(b, batch, run_b))


def compare_outputs(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> list[Difference]:
    """One row for each name that both have, in the order of `a`.

    Raises:
        ValueError: as `compare_models`.
    """
    common = [name for name in a if name in b]
    if not common:
        raise ValueError(
            f"the models have no output in common: {', '.join(a) or 'none'} and {', '.join(b) or 'none'}; "
            "compare models of one system with the same head"
        )
    return [_difference(name, a[name], b[name]) for name in common]


def agree(rows: Sequence[Difference], tolerance: float) -> bool:
    """Whether every output agrees within `tolerance`; what is not a number never does."""
    return all(row.largest <= tolerance for row in rows)


def table(rows: Sequence[Difference]) -> str:
    """The rows as text, a line an output."""
    shapes = [" × ".join(map(str, row.shape)) or "number" for row in rows]
    names = max(len("output"), *(len(row.output) for row in rows))
    wide = max(len("shape"), *map(len, shapes))
    lines = [f"{'output':{names}}  {'shape':{wide}}  {'largest':>9}  {'mean':>9}"]
    for row, shape in zip(rows, shapes, strict=True):
        lines.append(f"{row.output:{names}}  {shape:{wide}}  {row.largest:9.2e}  {row.mean:9.2e}")
    return "\n".join(lines)


def outputs_of(model: nn.Module, batch: Mapping[str, Any], run: Run | None = None) -> dict[str, Tensor]:
    """A model's outputs in evaluation mode by name; the model is left in the mode it was in.

    A tensor inside a dictionary, a dataclass, a named tuple or a list has the path to it as its name, with dots.
    """
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            result = run(model, batch) if run else model(**batch)
    finally:
        model.train(training)
    return dict(_flat(result, ""))


def _flat(value: Any, path: str) -> list[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        return [(path or "output", value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, (type, Mapping)):
        items: Any = [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    elif isinstance(value, Mapping):
        items = value.items()
    elif hasattr(value, "_asdict"):  # a named tuple
        items = value._asdict().items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    else:
        return []
    return [row for name, inner in items for row in _flat(inner, f"{path}.{name}" if path else str(name))]


def _difference(name: str, a: Tensor, b: Tensor) -> Difference:
    if a.shape != b.shape:
        raise ValueError(
            f"{name} is {list(a.shape)} in one model and {list(b.shape)} in the other: compare models with the same "
            "head and sizes"
        )
    # the same infinity or nan on both sides is no difference
    a, b = a.detach().cpu().double(), b.detach().cpu().double()
    apart = torch.where((a == b) | (a.isnan() & b.isnan()), 0.0, (a - b).abs())
    if not apart.numel():
        return Difference(name, tuple(a.shape), 0.0, 0.0)
    return Difference(name, tuple(a.shape), float(apart.max()), float(apart.mean()))
