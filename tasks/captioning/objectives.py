"""From a configuration to the objective of a run, and to what watches it."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from config import Config
from data import Split
from data.run_folder import RunFolder
from models.ofa import OFAModel
from models.ofa.checkpoints import load_model
from models.sources import resolve_source
from preprocessors import OfaStylishImageCaptioningPreprocessor
from preprocessors.style_tasks import StyleTasks
from rewards.calculator import RewardCalculator
from rewards.catalogue import build_rewards
from rewards.resources import Resources
from tasks.captioning.captioner import place
from trainers.cross_entropy import CrossEntropy
from trainers.distributed import World
from trainers.health import VarietyWatch, Warnings
from trainers.objective import Objective
from trainers.observer import Observer
from trainers.scst import SelfCritical
from trainers.scst_logs import HealthWatch
from trainers.scst_samples import SampleTable


def build_objective(
    config: Config,
    model: OFAModel,
    preprocessor: OfaStylishImageCaptioningPreprocessor,
    split: Split,
    world: World,
) -> tuple[Objective, list[Observer]]:
    """The objective that `config.train.objective` names, for captions of `split`."""
    train, told = config.train, Warnings(RunFolder(config.work_dir).warnings)
    if train.objective == "scst":
        scst = _self_critical(config, preprocessor, split, world)
        every, file = config.scst.samples_every, RunFolder(config.work_dir).samples
        table = [SampleTable(file, scst.sampled, every)] if every else []
        return scst, [HealthWatch(told), *table, VarietyWatch(told)]
    objective = CrossEntropy(
        pad=model.config.pad_token_id,
        label_smoothing=train.label_smoothing,
        drop_worst_ratio=train.drop_worst_ratio,
        drop_worst_after=train.drop_worst_after,
        rdrop_alpha=train.rdrop_alpha,
        task_weights=task_weights(config),
        gather=world.gather,
        rank=world.rank,
    )
    return objective, [VarietyWatch(told)]


def task_weights(config: Config) -> dict[str, float]:
    """Weights of the auxiliary tasks that are on, by name."""
    weights = {
        "mask_style": config.style_mlm.mask_style_weight,
        "mask_caption": config.style_mlm.mask_caption_weight,
        "matching": config.style_matching.weight,
    }
    return {name: weight for name, weight in weights.items() if weight}


def style_tasks(config: Config) -> StyleTasks | None:
    """The auxiliary tasks that are on; None in step 2, which has none."""
    if config.train.objective == "scst":
        return None
    on = task_weights(config)
    mlm = config.style_mlm
    settings: dict[str, Any] = dict.fromkeys(on, True)
    settings |= {"mask_ratio": mlm.mask_ratio, "place": mlm.place, "style_alone": mlm.style_token_alone}
    return StyleTasks(**settings) if on else None


def _self_critical(
    config: Config, preprocessor: OfaStylishImageCaptioningPreprocessor, split: Split, world: World
) -> SelfCritical:
    scst = config.scst
    return SelfCritical(
        calculator=_calculator(config, split, world),
        decode=_decode(preprocessor),
        candidates=scst.candidates,
        num_candidates=scst.num_candidates,
        temperature=scst.temperature,
        top_k=scst.top_k,
        top_p=scst.top_p,
        max_len_b=scst.max_len_b,
        baseline=scst.baseline,
        normalise_advantages=scst.normalise_advantages,
        reduction=scst.reduction,
        updates_per_rollout=scst.updates_per_rollout,
        clip=scst.clip,
        clip_high=scst.clip_high,
        mask_truncated=scst.mask_truncated,
        entropy_weight=scst.entropy_weight,
        cross_entropy_weight=scst.cross_entropy_weight,
        label_smoothing=config.train.label_smoothing,
        kl_weight=scst.kl_weight,
        reference=_step1_model(config, world) if scst.kl_weight else None,
        soft_references=_soft_references(config, split),
    )


def _calculator(config: Config, split: Split, world: World) -> RewardCalculator:
    """Built by the main process first: the others read the tables that it leaves in the run's folder."""
    scst = config.scst
    resources = Resources(
        split,
        RunFolder(config.work_dir),
        document_frequency_file=scst.document_frequency,
        soft_weight=scst.soft_references,
        shared_weight=scst.shared_ngram_weight,
        tokenizer=config.eval.tokenizer,
        http_timeout_s=scst.http_timeout_s,
        http_retries=scst.http_retries,
    )
    rewards = world.in_turn(lambda: build_rewards(scst.rewards, resources))
    return RewardCalculator(
        rewards,
        scst.rewards,
        workers=scst.workers,
        normalise=scst.normalise_rewards,
        tokenizer=config.eval.tokenizer,
    )


def _decode(preprocessor: OfaStylishImageCaptioningPreprocessor) -> Callable[[list[list[int]]], list[str]]:
    tokenizer = preprocessor.tokenizer

    def decode(rows: list[list[int]]) -> list[str]:
        return [" ".join(text.split()) for text in tokenizer.batch_decode(rows, skip_special_tokens=True)]

    return decode


def _step1_model(config: Config, world: World) -> OFAModel:
    """The model that step 2 starts from, to stay near: also in a run that is resumed."""
    assert config.model.checkpoint is not None
    return place(load_model(resolve_source(config.model.checkpoint, config.model.revision)), str(world.device))


def _soft_references(config: Config, split: Split) -> Callable[[str, str], Sequence[str]] | None:
    """What finds an image's captions in other styles, where a reward asks for them."""
    scst = config.scst
    if scst.shared_ngram_weight != 1:
        images = [request.image_id for request in split.requests()]
        if len(images) == len(set(images)):
            raise ValueError(
                f"scst.shared_ngram_weight = {scst.shared_ngram_weight:g} compares the captions of an image in several "
                f"styles, and split {split.name} has none such: set it to 1"
            )
    elif not scst.soft_references:
        return None
    return other_styles(split)


def other_styles(split: Split) -> Callable[[str, str], Sequence[str]]:
    """(image id, style) -> the captions of the image in other styles."""
    requests = split.requests()
    by_image = {
        image_id: [(request.style, request.references) for request in group]
        for image_id, group in itertools.groupby(requests, key=lambda request: request.image_id)
    }

    def captions(image_id: str, style: str) -> list[str]:
        return [text for other, texts in by_image[image_id] if other != style for text in texts]

    return captions
