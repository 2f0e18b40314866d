"""What docs/sizes.md says is what the benchmark computes, and what it computes is what autograd keeps."""

import re

import torch
from torch import nn

from benchmarks.sizes import configurations, cost, held_bytes, kept_and_flops, small_config, weights_table
from tests.conftest import ROOT
from tests.models.nano import nano_config

PAGE = (ROOT / "docs" / "sizes.md").read_text(encoding="utf-8")


def test_the_weights_of_every_size() -> None:
    table = weights_table(configurations())
    assert "\n".join(table) in PAGE


def test_the_page_has_the_update_of_the_embedded_default() -> None:
    found = cost(small_config(), 1, "float32", 96)
    assert f"| default | 1 | {found.kept / 1e9:.2f} + {found.kept_each / 1e9:.2f} GB |" in PAGE
    assert f"{found.flops / 1e9:.4g} G |" in PAGE


def test_kept_bytes_and_operations_of_a_linear_layer() -> None:
    layer, x = nn.Linear(4, 3), torch.ones(2, 4)
    kept, flops = kept_and_flops(layer, lambda: layer(x).exp().sum(), None)
    assert kept == 2 * 4 * 4 + 2 * 3 * 4  # the input, and what exp gives
    assert flops == 2 * (2 * 2 * 4 * 3)  # forwards, and of the weight's gradient: the input has none
    assert held_bytes(layer) == 16 * (4 * 3 + 3)


def test_every_image_adds_the_same() -> None:
    found = cost(nano_config(50), 2, "float32", 64)
    assert found.kept_each > 0
    assert found.bytes_of(3) - found.bytes_of(2) == found.kept_each


def test_measured_memory_is_near_what_is_computed() -> None:
    rows = re.findall(r"^\| \w+ \| \d \| \w+ \| [\d.]+ \| ([\d.]+) GB \| ([\d.]+) GB \|$", PAGE, flags=re.MULTILINE)
    assert len(rows) == 3
    assert all(1 <= float(peak) / float(computed) < 1.35 for peak, computed in rows)
