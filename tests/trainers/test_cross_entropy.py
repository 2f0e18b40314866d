"""The objective of step 1 against arithmetic, a naive formula, and ModelScope's own function."""

import importlib.util
import math
from pathlib import Path
from typing import Any

import modelscope
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.models.nano import nano_model
from trainers.cross_entropy import (
    CrossEntropy,
    caption_logits,
    kept_count,
    kept_tokens,
    symmetric_kl,
    token_losses,
)

PAD, VOCABULARY = 1, 40
logits_of = st.lists(st.lists(st.floats(-20, 20), min_size=4, max_size=4), min_size=1, max_size=6)


def naive_losses(logits: Tensor, target: Tensor, eps: float) -> Tensor:
    """The formula of the module's docstring, word for word, in double precision."""
    log_p = logits.double().log_softmax(-1)
    spread = eps / (logits.shape[-1] - 1)
    return torch.stack(
        [-(1 - eps - spread) * row[y] - spread * row.sum() for row, y in zip(log_p, target, strict=True)]
    )


# --- formulas --------------------------------------------------------------------------------------------------------


def test_token_losses_by_hand():
    # p = softmax(ln 1, ln 2, ln 5) = (1/8, 2/8, 5/8); V = 3, eps = 0.2, eps' = 0.1, so 1 - eps - eps' = 0.7.
    # -ln p = (2.079442, 1.386294, 0.470004), their sum 3.935740, of which a tenth is 0.393574.
    # target 2: 0.7 · 0.470004 + 0.393574 = 0.722577; target 0: 0.7 · 2.079442 + 0.393574 = 1.849183
    logits = torch.tensor([[1.0, 2.0, 5.0]]).log().repeat(2, 1)
    loss, nll = token_losses(logits, torch.tensor([2, 0]), 0.2)
    torch.testing.assert_close(loss, torch.tensor([0.722577, 1.849183]), rtol=0, atol=1e-5)
    torch.testing.assert_close(nll, torch.tensor([0.470004, 2.079442]), rtol=0, atol=1e-5)


def test_without_smoothing_the_loss_is_the_likelihood():
    logits, target = torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])
    loss, nll = token_losses(logits, target, 0.0)
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits, target, reduction="none"))
    assert torch.equal(loss, nll)


@given(rows=logits_of, eps=st.floats(0, 0.9), seed=st.integers(0, 9))
def test_token_losses_equal_the_naive_formula(rows, eps, seed):
    logits = torch.tensor(rows)
    target = torch.randint(4, (len(rows),), generator=torch.Generator().manual_seed(seed))
    loss, nll = token_losses(logits, target, eps)
    torch.testing.assert_close(loss.double(), naive_losses(logits, target, eps), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(nll.double(), naive_losses(logits, target, 0.0), rtol=1e-5, atol=1e-4)


def test_low_precision_logits_are_summed_in_float32():
    logits = torch.randn(3, 5000, dtype=torch.bfloat16)
    loss, _ = token_losses(logits, torch.tensor([1, 2, 3]), 0.1)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), naive_losses(logits, torch.tensor([1, 2, 3]), 0.1), rtol=1e-4, atol=1e-4)


def test_kept_tokens_are_the_best():
    losses = torch.tensor([3.0, 0.5, 9.0, 1.0, 2.0])
    assert set(kept_tokens(losses, 0.4).tolist()) == {1, 3, 4}  # 5 · 0.6 = 3 are kept, of 0.5, 1 and 2
    assert set(kept_tokens(losses, 0.5).tolist()) == {1, 3}  # 2.5 is rounded down


@given(tokens=st.integers(1, 50), ratio=st.floats(0, 0.999))
def test_something_is_always_kept(tokens, ratio):
    kept = kept_count(tokens, ratio)
    assert 1 <= kept <= tokens
    assert kept_tokens(torch.arange(tokens), ratio).shape == (kept,)


def test_symmetric_kl_by_hand():
    # p = (1/2, 1/2), q = (1/4, 3/4): KL(p|q) = ½ ln 2 + ½ ln ⅔ = 0.143841; KL(q|p) = ¼ ln ½ + ¾ ln 3/2 = 0.130812;
    # half of their sum is 0.137327. A second token with p and q exchanged has the same.
    p, q = torch.tensor([[0.5, 0.5], [0.25, 0.75]]).log(), torch.tensor([[0.25, 0.75], [0.5, 0.5]]).log()
    assert symmetric_kl(p[:1], q[:1]).item() == pytest.approx(0.137327, abs=1e-5)
    assert symmetric_kl(p, q).item() == pytest.approx(2 * 0.137327, abs=1e-5)


@given(rows=logits_of, seed=st.integers(0, 9))
def test_symmetric_kl_is_a_divergence(rows, seed):
    p = torch.tensor(rows)
    q = p + torch.randn(p.shape, generator=torch.Generator().manual_seed(seed))
    assert symmetric_kl(p, q).item() > 0
    assert symmetric_kl(p, q).item() == pytest.approx(symmetric_kl(q, p).item(), rel=1e-4, abs=1e-5)
    assert symmetric_kl(p, p).item() == 0
    assert symmetric_kl(p, p + 3).item() == pytest.approx(0, abs=1e-5)  # logits are free up to a constant


@pytest.mark.parametrize("drop", [0.0, 0.3])
@pytest.mark.parametrize("rdrop", [False, True])
def test_equals_modelscope(drop, rdrop):
    """`label_smoothed_nll_loss` of the installed ModelScope; its average over tokens times their number is our sum.

    Its package does not import without video readers, so the one file is loaded. Its R-drop doubles the batch and adds
    the divergence as a sum to an average; ours adds it as a part of the sum, so it is left out (alpha 0) here.
    """
    reference = modelscope_functions()
    torch.manual_seed(3)
    logits, target = torch.randn(10, 7), torch.randint(7, (10,))
    twin = logits + 0.1 * torch.randn(10, 7) if rdrop else logits
    both, targets = (torch.cat([logits, twin]), target.repeat(2)) if rdrop else (logits, target)
    loss, nll, tokens = reference.label_smoothed_nll_loss(
        both.log_softmax(-1), targets, 0.1, 5, drop_worst_ratio=drop, use_rdrop=rdrop, reg_alpha=0.0
    )
    objective = CrossEntropy(pad=-1, label_smoothing=0.1, drop_worst_ratio=drop, rdrop_alpha=1e-30 if rdrop else 0.0)
    passes = iter([logits, twin])
    output, count = run(objective, target[None], lambda: next(passes), step=5)
    assert count * (2 if rdrop else 1) == tokens
    assert output.loss_sum.item() / count == pytest.approx(loss.item(), rel=1e-5)
    assert output.logs["nll"][0].item() / count == pytest.approx(nll.item(), rel=1e-5)


def test_divergence_equals_modelscope():
    p, q = torch.randn(6, 5), torch.randn(6, 5)
    expected = modelscope_functions().kl_loss(p.log_softmax(-1), q.log_softmax(-1))
    torch.testing.assert_close(symmetric_kl(p, q), expected)


def modelscope_functions() -> Any:
    path = Path(str(modelscope.__file__)).parent / "trainers/multi_modal/ofa/ofa_trainer_utils.py"
    if not path.exists():
        pytest.skip("this ModelScope has no OFA trainer")
    spec = importlib.util.spec_from_file_location("ofa_trainer_utils", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- the objective ---------------------------------------------------------------------------------------------------


class Scripted:
    """Stands for a model: its hidden states are the logits that `passes` gives, one for each pass, row after row."""

    class decoder:
        @staticmethod
        def output_projection(hidden: Tensor) -> Tensor:
            return hidden

    def __init__(self, passes):
        self.passes = passes

    def encoder(self, *inputs: Any) -> None:
        return None

    def decode(self, encoded: None, tokens: Tensor, index: Any) -> Tensor:
        return self.passes().view(*tokens.shape, -1)


def run(
    objective: CrossEntropy, target: Tensor, passes: Any, step: int = 0, task: Tensor | None = None
) -> tuple[Any, float]:
    unused = ("input_ids", "patch_images", "patch_masks", "image_index", "encoder_index")
    batch: dict[str, Any] = dict.fromkeys(unused)
    batch |= {"target": target, "decoder_input_ids": target}
    if task is not None:
        batch["task"] = task
    return objective(Scripted(passes), batch, step), objective.count(batch, step)  # type: ignore[arg-type]


def test_sum_over_tokens_that_are_not_padding():
    # Three uniform tokens over 8 words cost ln 8 each, whatever the smoothing; the fourth place is padding.
    target = torch.tensor([[3, 2], [2, PAD]])
    objective = CrossEntropy(pad=PAD, label_smoothing=0.1)
    output, count = run(objective, target, lambda: torch.zeros(4, 8))
    assert count == 3
    assert output.loss_sum.item() == pytest.approx(3 * math.log(8), rel=1e-6)
    assert output.logs["nll"][0].item() == pytest.approx(3 * math.log(8), rel=1e-6)


@given(fill=st.floats(-1e4, 1e4))
def test_padded_places_do_not_matter(fill):
    target = torch.tensor([[3, 2, PAD], [4, 5, 2]])
    logits = torch.randn(6, 8, generator=torch.Generator().manual_seed(1))
    changed = logits.clone()
    changed[2] = fill
    objective = CrossEntropy(pad=PAD, label_smoothing=0.1, drop_worst_ratio=0.4)
    outputs = [run(objective, target, lambda given=given: given, step=1)[0] for given in (logits, changed)]
    assert torch.equal(outputs[0].loss_sum, outputs[1].loss_sum)


def test_worst_tokens_are_dropped_only_after_so_many_updates():
    # Four tokens; of the last the model is sure that it is another word. Dropping a quarter leaves three uniform ones.
    logits = torch.zeros(4, 8)
    logits[3, 0] = 50.0
    objective = CrossEntropy(pad=PAD, label_smoothing=0.0, drop_worst_ratio=0.25, drop_worst_after=2)
    losses, counts = [], []
    for step in range(4):
        output, count = run(objective, torch.tensor([[3, 4, 5, 2]]), lambda: logits, step)
        losses.append(output.loss_sum.item())
        counts.append(count)
    assert counts == [4, 4, 4, 3]  # after two updates means: not at steps 0, 1 and 2
    assert losses[2] == pytest.approx(3 * math.log(8) + 50)
    assert losses[3] == pytest.approx(3 * math.log(8))


def test_answers_weigh_beside_captions():
    # Uniform over 8 words: ln 8 a token. Two captions of 3 and 1 tokens, an answer of 2 to question 1, one of 1 to 2.
    target = torch.tensor([[3, 4, 2], [2, PAD, PAD], [5, 2, PAD], [2, PAD, PAD]])
    objective = CrossEntropy(
        pad=PAD, label_smoothing=0.1, task_weights={"mask_style": 0.5, "mask_caption": 3.0, "matching": 7.0}
    )
    output, count = run(objective, target, lambda: torch.zeros(12, 8), task=torch.tensor([0, 0, 1, 2]))
    assert count == 4
    assert output.loss_sum.item() == pytest.approx((4 + 0.5 * 2 + 3 * 1) * math.log(8), rel=1e-6)
    means = {name: float(total) / units for name, (total, units) in output.logs.items() if units}
    assert means["loss"] == pytest.approx(2 * math.log(8), rel=1e-6)
    for name in ("nll", "loss/mask_style", "loss/mask_caption"):
        assert means[name] == pytest.approx(math.log(8), rel=1e-6)
    assert "loss/matching" not in means


@pytest.mark.parametrize("settings", [{}, {"drop_worst_ratio": 0.4}, {"rdrop_alpha": 1.0}])
def test_answers_of_weight_0_change_nothing(settings):
    captions = torch.tensor([[3, 4, 2], [5, 2, PAD]])
    both = torch.cat([captions, torch.tensor([[6, 2, PAD]])])
    logits = torch.randn(9, 8, generator=torch.Generator().manual_seed(1))
    objective = CrossEntropy(pad=PAD, label_smoothing=0.1, task_weights={"mask_style": 0.0}, **settings)
    alone, count = run(objective, captions, lambda: logits[:6], step=1)
    beside, same = run(objective, both, lambda: logits, step=1, task=torch.tensor([0, 0, 1]))
    assert count == same
    assert torch.equal(alone.loss_sum, beside.loss_sum)


def test_rdrop_by_hand():
    # Two passes over one token of V = 2: p = (1/2, 1/2) and q = (1/4, 3/4), target 0, no smoothing.
    # Likelihoods ln 2 = 0.693147 and ln 4 = 1.386294, mean 1.039721; half of alpha 3 times 0.137327 (see above).
    passes = iter([torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log()])
    objective = CrossEntropy(pad=PAD, label_smoothing=0.0, rdrop_alpha=3.0)
    output, count = run(objective, torch.tensor([[0]]), lambda: next(passes))
    assert count == 1
    assert output.loss_sum.item() == pytest.approx(1.039721 + 1.5 * 0.137327, abs=1e-5)
    assert output.logs["nll"][0].item() == pytest.approx(1.039721, abs=1e-5)
    assert output.logs["rdrop_kl"][0].item() == pytest.approx(0.137327 / 2, abs=1e-5)


def test_rdrop_keeps_the_same_tokens_of_both_passes():
    # The first pass is worst at the last token, the second at the first one, which must be kept all the same.
    first, second = torch.zeros(4, 8), torch.zeros(4, 8)
    first[3, 0] = second[0, 0] = 50.0
    passes = iter([first, second])
    objective = CrossEntropy(pad=PAD, label_smoothing=0.0, drop_worst_ratio=0.25, rdrop_alpha=1e-30)
    output, count = run(objective, torch.tensor([[3, 4, 5, 2]]), lambda: next(passes), step=1)
    assert count == 3
    # Three uniform tokens in the first pass, two and the one that costs 50 in the second: half of 5 ln 8 + 50.
    assert output.loss_sum.item() == pytest.approx(2.5 * math.log(8) + 25)


# --- with a model ----------------------------------------------------------------------------------------------------


def batch_of_two() -> dict[str, Any]:
    """Two images, a prompt each, three captions of different length."""
    generator = torch.Generator().manual_seed(1)
    target = torch.tensor([[5, 6, 2, PAD], [7, 2, PAD, PAD], [8, 9, 10, 2]])
    return {
        "input_ids": torch.tensor([[0, 5, 6, 2], [0, 7, 2, PAD]]),
        "patch_images": torch.randn(2, 3, 32, 32, generator=generator),
        "patch_masks": torch.tensor([True, True]),
        "image_index": torch.tensor([0, 1]),
        "encoder_index": torch.tensor([0, 0, 1]),
        "decoder_input_ids": torch.tensor([[0, 5, 6, PAD], [0, 7, PAD, PAD], [0, 8, 9, 10]]),
        "target": target,
    }


def test_rdrop_without_dropout_equals_the_plain_loss():
    model, batch = nano_model(VOCABULARY), batch_of_two()
    plain = CrossEntropy(pad=PAD, label_smoothing=0.1)(model, batch, 0)
    twice = CrossEntropy(pad=PAD, label_smoothing=0.1, rdrop_alpha=5.0)(model, batch, 0)
    torch.testing.assert_close(twice.loss_sum, plain.loss_sum)
    assert twice.logs["rdrop_kl"][0].item() == pytest.approx(0, abs=1e-5)


def test_rdrop_with_dropout_diverges():
    model = nano_model(VOCABULARY, dropout=0.3).train()
    output = CrossEntropy(pad=PAD, label_smoothing=0.1, rdrop_alpha=5.0)(model, batch_of_two(), 0)
    assert output.logs["rdrop_kl"][0].item() > 0


def test_more_padding_changes_nothing():
    model, batch = nano_model(VOCABULARY), batch_of_two()
    wider = {key: torch.nn.functional.pad(batch[key], (0, 3), value=PAD) for key in ("target", "decoder_input_ids")}
    objective = CrossEntropy(pad=PAD, label_smoothing=0.1)
    narrow, wide = objective(model, batch, 0).loss_sum, objective(model, batch | wider, 0).loss_sum
    torch.testing.assert_close(wide, narrow, rtol=1e-6, atol=1e-5)
    assert objective.count(batch | wider, 0) == objective.count(batch, 0) == 9


def test_logits_equal_the_model_s_own():
    model, batch = nano_model(VOCABULARY), batch_of_two()
    kept = batch["target"].ne(PAD)
    inputs = {key: value for key, value in batch.items() if key != "target"}
    with torch.no_grad():
        torch.testing.assert_close(caption_logits(model, batch, kept.flatten()), model(**inputs).logits[kept])


def test_captions_that_share_an_image_cost_as_much_as_apart():
    """Three captions of two prompts of one image; and the image and its prompts repeated, a row for each caption."""
    model, batch = nano_model(VOCABULARY), batch_of_two()
    shared = batch | {"patch_images": batch["patch_images"][:1], "patch_masks": batch["patch_masks"][:1]}
    shared["image_index"] = torch.tensor([0, 0])
    apart = shared | {
        "patch_images": shared["patch_images"].repeat(3, 1, 1, 1),
        "patch_masks": shared["patch_masks"].repeat(3),
        "input_ids": shared["input_ids"][shared["encoder_index"]],
        "image_index": torch.arange(3),
        "encoder_index": torch.arange(3),
    }
    objective = CrossEntropy(pad=PAD, label_smoothing=0.1)
    gradients = []
    for given_batch in (shared, apart):
        model.zero_grad()
        output = objective(model, given_batch, 0)
        output.loss_sum.backward()
        gradients.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
        gradients[-1]["loss"] = output.loss_sum.detach()
    assert len(gradients[0]) > 20
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-3, atol=1e-4)
