"""`OFAModel`: encoder and decoder as one transformers model.

The state dict has the names and shapes of ModelScope's OFA, so that public weights load strictly.
"""

import torch
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import Seq2SeqLMOutput

from models.ofa.attention import OFAAttention, RelativePositionTable, image_buckets, token_buckets
from models.ofa.configuration import OFAConfig
from models.ofa.decoder import OFADecoder, image_code_positions
from models.ofa.encoder import OFAEncoder, OFAEncoderOutput
from models.ofa.resnet import Lite0Tower


class OFAModel(PreTrainedModel, GenerationMixin):
    """OFA (arXiv:2202.03052): image and prompt in, text out.

    Shapes: B images, M prompts, N captions, L prompt tokens, T caption tokens, V vocabulary.
    """

    config_class = OFAConfig
    config: OFAConfig
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _tied_weights_keys = {
        "decoder.embed_tokens.weight": "encoder.embed_tokens.weight",
        "decoder.output_projection.weight": "encoder.embed_tokens.weight",
    }

    def __init__(self, config: OFAConfig):
        super().__init__(config)
        shared = nn.Embedding(config.vocab_size, config.d_model, config.pad_token_id)
        self.encoder = OFAEncoder(config, shared)
        self.decoder = OFADecoder(config, shared)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """OFA's own initialisation: Xavier projections, embeddings of unit expected norm, He convolutions.

        EfficientNet-Lite0 gets its published weights.
        """
        if isinstance(module, RelativePositionTable):
            nn.init.zeros_(module.weight)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.d_model**-0.5)
            if module.padding_idx is not None:
                with torch.no_grad():
                    module.weight[module.padding_idx].zero_()
        elif isinstance(module, nn.Linear) and module is not self.decoder.output_projection:
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.LayerNorm | nn.BatchNorm2d):
            module.reset_parameters()
        elif isinstance(module, OFAEncoder | OFADecoder):
            # A model that is built on the meta device has no buckets until a checkpoint, or this, provides them.
            module.image_rp_bucket.copy_(image_buckets(self.config.image_bucket_size))
            module.token_rp_bucket.copy_(token_buckets(self.config.token_bucket_size))
            if isinstance(module, OFADecoder):
                module.image_position_idx.copy_(image_code_positions(self.config))
            elif isinstance(module.embed_images, Lite0Tower):
                module.embed_images.lite0.start()  # its parts were initialised before, so this stays
        elif isinstance(module, OFAAttention):
            nn.init.ones_(module.c_attn)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.encoder.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        assert isinstance(value, nn.Embedding)
        self.encoder.embed_tokens = value
        self.decoder.embed_tokens = value

    def get_output_embeddings(self) -> nn.Linear:
        return self.decoder.output_projection

    def get_encoder(self, modality: str | None = None) -> OFAEncoder:
        return self.encoder

    def get_decoder(self) -> OFADecoder:
        return self.decoder

    def forward(
        self,
        input_ids: Tensor | None = None,
        patch_images: Tensor | None = None,
        patch_masks: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        image_index: Tensor | None = None,
        encoder_index: Tensor | None = None,
        encoder_outputs: OFAEncoderOutput | None = None,
        padded: bool | None = None,
        **_: object,
    ) -> Seq2SeqLMOutput:
        """Next-token logits under teacher forcing.

        Args:
            input_ids: prompts [M, L], padded with `pad_token_id`.
            patch_images: pixels [B, 3, height, width]; None for text alone.
            patch_masks: [B] bool, False for a missing image.
            decoder_input_ids: captions [N, T], bos first.
            image_index: [M] the image of each prompt; None when every prompt has its own.
            encoder_index: [N] the prompt of each caption; None when each prompt has the same number N / M of captions,
                which then stand together and share its keys and values.
            encoder_outputs: what `encoder` returned, instead of prompts and images.
            padded: as in `OFAEncoder.forward`.

        Returns:
            `logits` [N, T, V] and `encoder_last_hidden_state` [M, S, D].
        """
        if decoder_input_ids is None:
            raise ValueError("OFAModel: decoder_input_ids is missing; start captions with the bos token")
        if encoder_outputs is None:
            encoder_outputs = self.encoder(input_ids, patch_images, patch_masks, image_index, padded)
        hidden = self.decode(encoder_outputs, decoder_input_ids, encoder_index)
        return Seq2SeqLMOutput(
            logits=self.decoder.output_projection(hidden),
            encoder_last_hidden_state=encoder_outputs.last_hidden_state,
        )

    def decode(self, encoded: OFAEncoderOutput, decoder_input_ids: Tensor, encoder_index: Tensor | None) -> Tensor:
        """The decoder's states [N, T, D] for captions of encoded prompts."""
        source = self.decoder.prepare(encoded, decoder_input_ids.shape[1], encoder_index)
        return self.decoder(decoder_input_ids, source)

    def prepare_inputs_for_generation(  # type: ignore[override]
        self, input_ids: Tensor, encoder_outputs: OFAEncoderOutput | None = None, **_: object
    ) -> dict:
        """For `generate`, which has no cache of ours: every step reads the whole caption (see `generation.py`)."""
        return {"decoder_input_ids": input_ids, "encoder_outputs": encoder_outputs}

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False
