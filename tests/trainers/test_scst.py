"""Step 2's objective on a nano model, against the plain way: every image repeated once a candidate."""

from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models.ofa import OFAModel
from models.ofa.generation import sample_encoded
from preprocessors.collate import Asked
from rewards.base import Candidate
from rewards.calculator import Rewards
from tests.models.nano import BOS, EOS, PAD, PROMPTS, Batch, nano_model, prompt_batch
from trainers.rollouts import candidate_logits, without_forced_end
from trainers.scst import SelfCritical
from trainers.scst_logs import HealthCheck, candidate_logs, reward_logs

VOCAB, K = 40, 3


class LengthReward:
    """Stands in for a calculator: remembers what it was given, and prefers short captions."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.closed = False

    def submit(self, candidates: Any, *others: Any) -> "Future[Rewards]":
        self.calls.append((candidates, *others))
        values = np.array([[10.0 / (1 + len(c.text.split())) for c in group] for group in candidates])
        future: Future[Rewards] = Future()
        future.set_result(Rewards(values, {"length": values}, 0.25))
        return future

    def close(self) -> None:
        self.closed = True


def objective(**settings: Any) -> SelfCritical:
    defaults: dict[str, Any] = {
        "calculator": LengthReward(),
        "decode": lambda rows: [" ".join(f"w{token}" for token in row) for row in rows],
        "candidates": "multinomial",
        "num_candidates": K,
        "temperature": 1.0,
        "top_k": 0,
        "top_p": 1.0,
        "max_len_b": 6,
        "baseline": "leave_one_out",
        "normalise_advantages": "none",
        "reduction": "sequence",
    }
    return SelfCritical(**(defaults | settings))


def calls_of(scst: SelfCritical) -> list[tuple[Any, ...]]:
    calculator: Any = scst.calculator
    return calculator.calls


@pytest.fixture
def model() -> OFAModel:
    model = nano_model(VOCAB, dropout=0.3, encoder_drop_path_rate=0.3)
    with torch.no_grad():
        model.encoder.embed_tokens.weight[EOS] *= 3  # some captions end early, some late
    return model


@pytest.fixture
def batch() -> Batch:
    """Two prompts of the first image, one of the second, one without its image."""
    plain = prompt_batch()
    order = torch.tensor([0, 1, 1, 2])
    requests = [{"image_id": f"image{i}", "style": "Sweet", "references": [f"reference {i}"]} for i in order.tolist()]
    targets = torch.tensor([[7, 8, EOS], [9, EOS, PAD], [5, 6, EOS], [4, EOS, PAD]])
    return {
        "input_ids": plain["input_ids"][torch.tensor([0, 1, 0, 2])],
        "patch_images": plain["patch_images"],
        "patch_masks": plain["patch_masks"],
        "image_index": order,
        "encoder_index": torch.arange(4),
        "decoder_input_ids": torch.cat([torch.zeros(4, 1, dtype=torch.long), targets[:, :-1]], 1).masked_fill(
            torch.cat([torch.zeros(4, 1, dtype=torch.bool), targets[:, :-1].eq(EOS)], 1), PAD
        ),
        "target": targets,
        "requests": requests,
        "asked": Asked.of(range(4), [BOS] * 4, requests),
    }


def plain_loss(model: OFAModel, batch: Batch, tokens: Tensor, rewards: Tensor) -> Tensor:
    """Every prompt with its own copy of its image, repeated once a candidate, read by the whole model."""
    total = torch.zeros(())
    asked = batch["asked"]
    for row, prompt in enumerate(asked.prompts):
        length = len(PROMPTS[[0, 1, 0, 2][prompt]])
        image = int(batch["image_index"][prompt])
        ids = batch["input_ids"][prompt, :length].expand(K, -1)
        pixels = batch["patch_images"][image].expand(K, -1, -1, -1)
        masks = batch["patch_masks"][image].expand(K)
        start = torch.full((K, 1), asked.starts[row])
        inputs = torch.cat([start, tokens[row][:, :-1]], 1)
        logits = model(ids, pixels, masks, inputs).logits.clone()
        logits[..., PAD] = -torch.inf  # which sampling never draws, nor an end before the first word
        logits[:, 0, EOS] = -torch.inf
        log_p = logits.log_softmax(-1)
        log_p = log_p.gather(2, tokens[row][..., None]).squeeze(2)
        for candidate in range(K):
            others = [rewards[row, i] for i in range(K) if i != candidate]
            advantage = rewards[row, candidate] - sum(others) / (K - 1)
            total = total - advantage * log_p[candidate][tokens[row, candidate].ne(PAD)].sum()
    return total


def gradients(model: OFAModel) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


@pytest.mark.parametrize(
    ("prompts", "starts"),
    [([0, 1, 2, 3], [BOS] * 4), ([0, 0, 1, 2, 3], [5, 6, 5, 5, 6])],
    ids=["a prompt for each style", "a start for each style"],
)
def test_the_shared_pass_equals_repeating_every_image_for_every_candidate(model, batch, prompts, starts):
    batch["asked"] = Asked.of(prompts, starts, [batch["requests"][prompt] for prompt in prompts])
    scst = objective()
    scst.set_mode(model)
    torch.manual_seed(1)
    prepared = scst.prepare(model, batch)
    output = scst(model, prepared, 0)
    output.loss_sum.backward()
    shared = gradients(model)
    rollout = prepared["rollout"]
    rewards = torch.as_tensor(rollout.rewards.result().total, dtype=torch.float32)
    assert (rewards.std(1) > 0).sum() >= 3, "captions of one length would prove nothing"
    loss = plain_loss(model, batch, rollout.tokens, rewards)
    loss.backward()
    plain = gradients(model)
    torch.testing.assert_close(output.loss_sum, loss, rtol=1e-5, atol=1e-5)
    assert shared.keys() == plain.keys()
    assert any(name.startswith("encoder.embed_images") for name in shared)
    scale = max(gradient.abs().max().item() for gradient in plain.values())
    for name, gradient in plain.items():
        torch.testing.assert_close(shared[name], gradient, rtol=0, atol=1e-5 * scale, msg=name)


def test_what_was_sampled_is_what_is_trained(model, batch):
    scst = objective()
    scst.set_mode(model)
    encoded = model.encoder(batch["input_ids"], batch["patch_images"], batch["patch_masks"], batch["image_index"])
    drawn = sample_encoded(model, encoded, num_samples=K, max_len_b=6)
    logits, kept, target = candidate_logits(model, encoded, drawn.tokens)
    read = logits.float().log_softmax(-1).gather(1, target[:, None]).squeeze(1)
    torch.testing.assert_close(read, drawn.log_probs.flatten(0, 1)[kept], rtol=0, atol=2e-5)


def test_step_2_has_no_dropout_and_leaves_batch_statistics_alone(model, batch):
    scst = objective(candidates="beam")
    model.train()
    before = model.encoder.embed_images.bn1.running_mean.clone()
    losses = []
    for _ in range(2):
        scst.set_mode(model)
        losses.append(scst(model, scst.prepare(model, batch), 0).loss_sum.item())
    assert losses[0] == losses[1]
    assert torch.equal(model.encoder.embed_images.bn1.running_mean, before)


def test_the_greedy_caption_is_scored_and_not_trained(model, batch):
    scst = objective(baseline="greedy")
    scst.set_mode(model)
    torch.manual_seed(3)
    prepared = scst.prepare(model, batch)
    (groups, references, styles, images, soft) = calls_of(scst)[0]
    assert [len(group) for group in groups] == [1 + K] * 4
    encoded = prepared["rollout"].encoded
    greedy = sample_encoded(model, encoded, num_samples=1, max_len_b=6, temperature=0).tokens[:, 0]
    words = [[f"w{token}" for token in row if token not in (EOS, PAD)] for row in greedy.tolist()]
    assert [group[0].text.split() for group in groups] == words
    assert prepared["rollout"].tokens.shape[:2] == (4, K)
    output = scst(model, prepared, 0)
    assert output.logs["reward/greedy"][1] == 4
    assert references == [["reference 0"], ["reference 1"], ["reference 1"], ["reference 2"]]
    assert (styles, images, soft) == (["Sweet"] * 4, ["image0", "image1", "image1", "image2"], None)


def test_an_end_that_decoding_forces_is_neither_learnt_nor_taken_for_one(model, batch):
    scst = objective(max_len_b=2, num_candidates=8)
    scst.set_mode(model)
    prepared = scst.prepare(model, batch)
    tokens = prepared["rollout"].tokens.flatten(0, 1)
    candidates = [c for group in calls_of(scst)[0][0] for c in group]
    assert tokens.shape[1] == 3
    assert {c.ended for c in candidates} == {True, False}
    for row, candidate in zip(tokens.tolist(), candidates, strict=True):
        words = [token for token in row if token not in (EOS, PAD)]
        assert candidate == Candidate(" ".join(f"w{token}" for token in words), EOS in row)
        assert len(words) <= 2
        assert EOS in row or len(words) == 2


def test_without_forced_end_by_hand():
    tokens = torch.tensor([[[5, 6, EOS, PAD], [5, EOS, PAD, PAD], [5, 6, 7, EOS]]])
    expected = torch.tensor([[[5, 6, EOS], [5, EOS, PAD], [5, 6, PAD]]])
    assert torch.equal(without_forced_end(tokens, 2, EOS, PAD), expected)


def test_cross_entropy_is_mixed_in_with_its_weight(model, batch):
    plain, mixed = objective(candidates="beam"), objective(candidates="beam", cross_entropy_weight=0.5)
    plain.set_mode(model)
    losses = [scst(model, scst.prepare(model, batch), 0).loss_sum / (4 * K) for scst in (plain, mixed)]
    logits = model(
        batch["input_ids"],
        batch["patch_images"],
        batch["patch_masks"],
        batch["decoder_input_ids"],
        image_index=batch["image_index"],
    ).logits
    nll = -logits.log_softmax(-1).gather(2, batch["target"][..., None]).squeeze(2)
    kept = batch["target"].ne(PAD)
    by_caption = [nll[row][kept[row]].mean().item() for row in range(4)]
    assert (losses[1] - losses[0]).item() == pytest.approx(0.5 * sum(by_caption) / 4, abs=1e-5)


def test_the_divergence_term_is_zero_at_the_start_and_pulls_back_later(model, batch):
    reference = nano_model(VOCAB, dropout=0.3, encoder_drop_path_rate=0.3)
    reference.load_state_dict(model.state_dict())
    scst = objective(candidates="beam", kl_weight=2.0, reference=reference)
    scst.set_mode(model)
    assert float(scst(model, scst.prepare(model, batch), 0).logs["kl"][0]) == pytest.approx(0, abs=1e-5)
    with torch.no_grad():
        model.decoder.layer_norm.weight.mul_(1.5)
    output = scst(model, scst.prepare(model, batch), 0)
    assert float(output.logs["kl"][0]) > 0.01
    without = objective(candidates="beam")
    difference = output.loss_sum - without(model, without.prepare(model, batch), 0).loss_sum
    assert difference.item() == pytest.approx(2.0 * float(output.logs["kl"][0]), rel=1e-4)
    assert all(p.grad is None and not p.requires_grad for p in reference.parameters())


def test_logs_of_candidates_by_hand():
    tokens = torch.tensor([[[5, 6, EOS], [5, 6, EOS]], [[7, EOS, PAD], [8, 9, 8]]])
    logs = candidate_logs(tokens, EOS, PAD)
    assert {name: float(total) / units for name, (total, units) in logs.items()} == {
        "length": (2 + 2 + 1 + 3) / 4,
        "ended": 3 / 4,
        "duplicates": 1 / 4,
    }
    total = np.array([[0.0, 1.0, 2.0], [9.0, 1.0, 4.0]])  # the first column is greedy
    logs = reward_logs(Rewards(total, {"style": np.array([[0, -1.0, 2.0], [0, 1.0, 3.0]])}, 0.1), 2)
    means = {name: float(value) / units for name, (value, units) in logs.items()}
    assert means["reward"] == 2.0
    assert means["reward/style"] == 1.25
    assert means["style_accuracy"] == 0.75
    assert means["reward/greedy"] == 4.5
    assert means["reward_std"] == pytest.approx(np.std([1, 2, 1, 4]))


HEALTHY = {"zero_spread": 0.1, "ended": 1.0, "length": 10.0, "entropy": 1.0, "style_accuracy": 0.9}


@pytest.mark.parametrize(
    ("name", "value", "advice"),
    [
        ("zero_spread", 0.95, "scst.num_candidates"),
        ("ended", 0.7, "scst.max_len_b"),
        ("length", 16.0, "scst.cross_entropy_weight"),
        ("length", 5.0, "train.lr"),
        ("entropy", 0.05, "scst.kl_weight"),
        ("style_accuracy", 0.6, '"style"'),
    ],
)
def test_a_run_that_goes_wrong_is_told_once_what_to_change(name, value, advice):
    check = HealthCheck(window=3)
    said = [text for _ in range(3) for text in check.update(HEALTHY)]
    said += [text for _ in range(9) for text in check.update(HEALTHY | {name: value})]
    assert len(said) == 1
    assert advice in said[0]


def test_a_healthy_run_is_left_alone():
    check = HealthCheck(window=3)
    assert [text for _ in range(12) for text in check.update(HEALTHY)] == []
