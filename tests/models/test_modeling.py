"""Rows of a batch: padded, alone, without their image, sharing an image or a prompt, a step at a time."""

import pytest
import torch
from torch import Tensor

from models.ofa import OFAModel
from tests.models.nano import PAD, Batch, close, nano_model, prompt_batch, row_of

VOCAB = 40


@pytest.fixture(scope="module")
def model() -> OFAModel:
    return nano_model(VOCAB)


@pytest.fixture(scope="module")
def batch() -> Batch:
    return prompt_batch()


@pytest.fixture(scope="module")
def captions() -> Tensor:
    return torch.tensor([[0, 11, 12, 13, 14], [0, 15, 16, 1, 1], [0, 17, 18, 19, 1]])


@torch.no_grad()
@pytest.mark.parametrize("row", range(3))
def test_a_row_equals_the_same_prompt_alone_unpadded_and_without_its_missing_image(
    model: OFAModel, batch: Batch, captions: Tensor, row: int
) -> None:
    together = model(**batch, decoder_input_ids=captions).logits
    alone = model(**row_of(batch, row), decoder_input_ids=captions[row : row + 1]).logits
    length = int((captions[row] != PAD).sum())
    close(together[row, :length], alone[0, :length])


@torch.no_grad()
def test_a_missing_image_is_not_looked_at(model: OFAModel, batch: Batch, captions: Tensor) -> None:
    other = batch | {"patch_images": batch["patch_images"].flip(0)}
    before, after = (model(**b, decoder_input_ids=captions).logits for b in (batch, other))
    close(after[2, :4], before[2, :4])
    assert (after[0] - before[0]).abs().max() > 1e-2


@torch.no_grad()
def test_sharing_by_index_equals_repeating(model: OFAModel, batch: Batch) -> None:
    image_index, encoder_index = torch.tensor([1, 0, 1, 2]), torch.tensor([3, 0, 0, 2, 1])
    ids = batch["input_ids"][[0, 1, 2, 1]]
    captions = torch.randint(3, VOCAB, (5, 4), generator=torch.Generator().manual_seed(2))
    shared = model(
        ids,
        batch["patch_images"],
        batch["patch_masks"],
        captions,
        image_index=image_index,
        encoder_index=encoder_index,
    ).logits
    images = image_index[encoder_index]
    repeated = model(ids[encoder_index], batch["patch_images"][images], batch["patch_masks"][images], captions).logits
    close(shared, repeated)


@torch.no_grad()
def test_candidates_that_stand_together_equal_repeating_their_source(model: OFAModel, batch: Batch) -> None:
    captions = torch.randint(3, VOCAB, (3 * 4, 5), generator=torch.Generator().manual_seed(3))
    folded = model(**batch, decoder_input_ids=captions).logits
    rows = torch.arange(3).repeat_interleave(4)
    repeated = model(**{key: value[rows] for key, value in batch.items()}, decoder_input_ids=captions).logits
    close(folded, repeated)


@torch.no_grad()
@pytest.mark.parametrize("candidates", [1, 3])
def test_decoding_step_by_step_equals_teacher_forcing(model: OFAModel, batch: Batch, candidates: int) -> None:
    captions = torch.randint(3, VOCAB, (3 * candidates, 6), generator=torch.Generator().manual_seed(4))
    encoded = model.encoder(**batch)
    source = model.decoder.prepare(encoded, 6)
    caches = model.decoder.caches(3 * candidates, 6, like=encoded.last_hidden_state)
    steps = [model.decoder.step(captions[:, t], t, source, caches) for t in range(6)]
    close(torch.stack(steps, dim=1), model(decoder_input_ids=captions, encoder_outputs=encoded).logits)


def test_images_larger_than_the_position_table_are_refused(model: OFAModel) -> None:
    with pytest.raises(ValueError, match="160x64 pixels have 10x4 patches.*8 a side.*patch_image_size"):
        model(torch.tensor([[0, 2]]), torch.zeros(1, 3, 160, 64), None, torch.tensor([[0]]))


@pytest.fixture
def unpadded(batch: Batch) -> Batch:
    """Three prompts of one length, every image there."""
    ids = torch.randint(3, VOCAB, (3, 5), generator=torch.Generator().manual_seed(5))
    return batch | {"input_ids": ids, "patch_masks": torch.tensor([True, True, True])}


@pytest.mark.parametrize("candidates", [1, 2])
def test_without_padding_no_bias_is_made_for_it_and_all_numbers_stay(
    model: OFAModel, unpadded: Batch, candidates: int
) -> None:
    captions = torch.randint(3, VOCAB, (3 * candidates, 4), generator=torch.Generator().manual_seed(6))
    outcomes = []
    for padded in (True, False, None):
        model.zero_grad()
        logits = model(**unpadded, decoder_input_ids=captions, padded=padded).logits
        logits.log_softmax(-1)[..., 7].sum().backward()
        outcomes.append((logits, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}))
    (with_bias, gradients), *others = outcomes
    for logits, others_gradients in others:
        close(logits, with_bias)
        assert others_gradients.keys() == gradients.keys()
        for name, gradient in gradients.items():
            torch.testing.assert_close(others_gradients[name], gradient, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_bias_of_a_layer_is_one_for_all_prompts_where_nothing_is_padded(
    model: OFAModel, batch: Batch, unpadded: Batch
) -> None:
    seen: list[int] = []
    for layer in model.encoder.layers:
        layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1].shape[0]))
    encoded = model.encoder(**unpadded)
    assert encoded.padding_mask is None
    assert model.decoder.prepare(encoded, 4, torch.tensor([2, 0, 0])).cross_bias.shape[0] == 1
    assert model.encoder(**batch).padding_mask is not None
    assert seen == [1, 1, 3, 3]
