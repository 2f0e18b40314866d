"""An auxiliary loss of step 1: the words of an image's captions, told from its patches alone.

An image tower that starts from nothing learns slowly through a decoder, which can guess most words from those before
them. Here the mean of an image's encoded patches goes through the output embeddings, and the softmax is compared with
the distinct words of the image's captions in the batch, each with the same share (the softmax over a bag of words of
arXiv:1511.02251). It needs no weights of its own.
"""

from torch import Tensor

from models.ofa import OFAModel
from models.ofa.encoder import OFAEncoderOutput


def image_words_loss(model: OFAModel, encoded: OFAEncoderOutput, batch: dict, captions: Tensor) -> Tensor:
    """Mean over the prompts that have captions of the cross-entropy with the words of their image's captions: a scalar.

    Args:
        encoded: the encoder's output for the prompts [M, S, D], patches first.
        batch: as `collate` makes it.
        captions: [N, T] bool, the positions of the targets that are tokens of captions.
    """
    prompts = batch["encoder_index"][captions.any(1)].unique()
    patches = encoded.last_hidden_state.shape[1] - batch["input_ids"].shape[1]
    pooled = encoded.last_hidden_state[prompts, :patches].mean(1)
    log_p = model.decoder.output_projection(pooled).float().log_softmax(-1)
    words = log_p.new_zeros(batch["patch_images"].shape[0], log_p.shape[1])
    image = batch["image_index"][batch["encoder_index"]]
    words[image[:, None].expand_as(captions)[captions], batch["target"][captions]] = 1
    words[:, model.config.eos_token_id] = 0
    share = words / words.sum(1, keepdim=True).clamp_min(1)
    return -(share[batch["image_index"][prompts]] * log_p).sum(1).mean()
