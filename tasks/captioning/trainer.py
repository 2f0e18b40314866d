"""`OFATrainer` for captions in a style: checkpoints carry the style map, validation captions the split's requests."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from modelscope.trainers.builder import TRAINERS
from torch import Tensor

from data import Split
from data.loading import CaptionGroupsDataset, ImageCache
from metrics.cider import DocumentFrequency
from models.ofa import OFAModel
from models.ofa.saving import write_model
from models.ofa.styles import StyleMap, initial_style_embeddings
from preprocessors import OfaStylishImageCaptioningPreprocessor
from tasks.captioning.captioner import Captioner, DType, merge, shard
from tasks.captioning.evaluation import evaluate_captions
from trainers.batches import TrainingItems
from trainers.distributed import World
from trainers.objective import Objective
from trainers.ofa_trainer import OFATrainer


@TRAINERS.register_module(module_name="ofa-stylish-captioning")
class StylishOFATrainer(OFATrainer):
    """Trains a model to caption in the styles of a preprocessor's style map.

    Args:
        model: the model to train.
        cfg_file: ModelScope's `configuration.json` of the run.
        preprocessor: in mode "train".
        train_split: captions to learn.
        val_split: captions to score after each checkpoint; None scores nothing.
        captions_per_image: most captions of an image that share its forward pass.
        one_a_request: an epoch has one caption of each image and style, for objectives that write their own.
        image_cache: decoded images of the training split.
        document_frequency: of the training captions, for CIDEr-D as `eval` computes it.
        validation: keywords of `Captioner.caption`.
        seed: of shuffling and crops, the same on all ranks, and of dropout, where each rank adds its own.
        others: as for `OFATrainer`.
    """

    def __init__(
        self,
        model: OFAModel,
        cfg_file: str,
        preprocessor: OfaStylishImageCaptioningPreprocessor,
        train_split: Split,
        val_split: Split | None,
        objective: Objective,
        world: World | None = None,
        *,
        captions_per_image: int,
        one_a_request: bool = False,
        image_cache: ImageCache | None = None,
        document_frequency: DocumentFrequency | None = None,
        validation: dict[str, Any],
        dtype: DType,
        seed: int,
        **others: Any,
    ):
        self.preprocessor = preprocessor
        self.requests = val_split.requests() if val_split is not None else []
        self.validation = validation
        self.document_frequency = document_frequency
        self.captioner = Captioner(model, preprocessor, dtype=dtype)
        groups = CaptionGroupsDataset(train_split, captions_per_image, seed, image_cache, one_a_request=one_a_request)
        super().__init__(
            model=model,
            cfg_file=cfg_file,
            train_dataset=TrainingItems(groups, preprocessor, seed),
            objective=objective,
            write_model=self.write_directory,
            validate=self.score if self.requests else None,
            world=world,
            dtype=dtype,
            seed=seed,
            **others,
        )

    def write_directory(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        """Fill `folder` with all that inference needs, the weights in one format."""
        generation = {k: v for k, v in self.validation.items() if k not in ("batch_size", "num_workers")}
        write_model(
            folder,
            self.model,
            self.preprocessor.tokenizer,
            style_map=self.preprocessor.style_map,
            preprocessor=self.preprocessor.settings,
            generation=generation,
            formats=("safetensors",),
            weights=weights,
        )

    def score(self) -> dict[str, Any]:
        """Scores of the model as it is on the validation split, captioned by all ranks together."""
        mine = shard(self.requests, self.world.rank, self.world.size)
        captions = self.captioner.caption(mine, progress=self.world.is_main, **self.validation)
        captions = merge(self.world.gather(captions))
        if not self.world.is_main:
            return {}
        return evaluate_captions(
            self.requests,
            captions,
            scorer="stylecap",
            meteor=False,
            spice=False,
            java_timeout_s=0,
            document_frequency=self.document_frequency,
        )


def start_style_tokens(
    model: OFAModel, preprocessor: OfaStylishImageCaptioningPreprocessor, known: StyleMap | None = None
) -> None:
    """Start each style token from the mean embedding of its style's words, except those with that meaning in `known`,
    the style map that the model was trained with before."""
    weight = model.get_input_embeddings().weight
    vectors = initial_style_embeddings(weight, preprocessor.style_map, preprocessor.tokenizer)
    taught = set(known.tokens.items()) if known else set()
    ids = preprocessor.style_map.token_ids(preprocessor.tokenizer)
    kept = {ids[style] for style, token in preprocessor.style_map.tokens.items() if (style, token) in taught}
    with torch.no_grad():
        for token_id, vector in vectors.items():
            if token_id not in kept:
                weight[token_id] = vector
