"""Features of a run's images, where its image tower is frozen: computed once, kept in a file, shared by processes."""

import hashlib
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from config import Config
from data import Split
from data.feature_cache import FeatureCache
from data.run_folder import RunFolder
from models.ofa import OFAModel
from models.ofa.resnet import ImageTower
from preprocessors import OfaStylishImageCaptioningPreprocessor
from preprocessors.images import ImageTransform, load_image

LOGGER = logging.getLogger("stylecap")


def feature_cache(
    config: Config,
    model: OFAModel,
    preprocessor: OfaStylishImageCaptioningPreprocessor,
    split: Split,
    *,
    mirrored: bool,
) -> FeatureCache | None:
    """What the model's image tower makes of the images of a split; None where `data.cache_features` is off.

    Computed where the model is, with its weights as they are, at the sizes of its preprocessor. `mirrored`: a second
    view of each image. Raises ValueError for an image that is missing or broken.
    """
    if not config.data.cache_features:
        return None
    side, whole = (preprocessor.settings[name] for name in ("patch_image_size", "max_image_size"))
    transform, tower = ImageTransform(side, whole, train=False), model.encoder.embed_images
    crop = f"{side}" if side == whole else f"{side} of {whole}"
    rows = -(-side // tower.stride)
    views = 2 if mirrored else 1
    name = f"features-{split.name}-{model.config.resnet_type}-{side}-{views}.bin"
    return FeatureCache(
        feature_folder(config) / name,
        split.image_paths,
        (views, tower.channels, rows, rows),
        f"{model.config.resnet_type} {digest(tower)} {crop}",
        tower_features(tower, transform, mirrored=mirrored),
    )


def feature_folder(config: Config) -> Path:
    return Path(config.data.feature_dir) if config.data.feature_dir else RunFolder(config.work_dir).cache


def tower_features(
    tower: ImageTower, transform: ImageTransform, *, mirrored: bool
) -> Callable[[list[str]], np.ndarray]:
    """Image files -> float32 [n, V, C, h, w]: each as it is and, if asked for, mirrored (V = 2)."""

    def pixels(path: str) -> torch.Tensor:
        return transform(load_image(path, draft_size=transform.max_image_size))

    @torch.inference_mode()
    def compute(paths: list[str]) -> np.ndarray:
        device, mode = next(tower.parameters()).device, tower.training
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            images = torch.stack(list(pool.map(pixels, paths)))
        tower.eval()
        views = [images, images.flip(-1)] if mirrored else [images]
        made = [tower(view.to(device, memory_format=torch.channels_last)).float() for view in views]
        tower.train(mode)
        return torch.stack(made, dim=1).cpu().numpy()

    return compute


def digest(tower: torch.nn.Module) -> str:
    """16 hexadecimal digits that change with any weight or running statistic."""
    state = hashlib.sha256()
    for name, tensor in sorted(tower.state_dict().items()):
        state.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return state.hexdigest()[:16]
