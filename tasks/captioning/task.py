"""Stylish image captioning as a task: what its data, network, objectives, scores and cards are."""

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from config import Config
from data import Split
from data.demo import render
from data.doctor import Report
from data.loading import CaptionGroupsDataset, ImageCache
from data.run_folder import RunFolder
from evaluation.caption_scores import evaluate_captions
from evaluation.extra_scores import Extras
from evaluation.judgement import Judgement
from evaluation.judging import judge
from metrics.cider import DocumentFrequency
from metrics.diversity import different
from preprocessors.images import ImageTransform, load_image
from report.card import Card
from rewards.document_frequency import table_of_split
from tasks.base import Built, DrawnSet
from tasks.captioning import trainer as registered_trainer
from tasks.captioning.build import build_model, built, open_model
from tasks.captioning.captioner import Caption, Captioner
from tasks.captioning.controls import CONTROLS, WITHOUT_MODEL, constant_captions, in_next_style
from tasks.captioning.features import feature_cache, feature_folder
from tasks.captioning.items import TrainingItems
from tasks.captioning.nearest import nearest_captions, pooled_features
from tasks.captioning.objectives import build_objective, style_tasks
from tasks.captioning.records import checked, examined, identity, open_split, read_annotations, search_settings
from tasks.captioning.requests import check_judging, check_requests, in_many_styles, predicted_by
from tasks.predicting import merge, shard
from trainers.distributed import World
from trainers.health import DIFFERENT
from trainers.objective import Objective
from trainers.observer import Observer

LOGGER = logging.getLogger("stylecap")


class Captioning:
    """The task stylish-image-captioning; see `tasks.base.Task` for what each method is for."""

    trainer = registered_trainer.NAME
    controls: Sequence[str] = CONTROLS

    def splits(self, config: Config) -> list[str]:
        return config.splits()

    def read(self, config: Config, split: str) -> Split:
        return read_annotations(config, split)

    def check(self, config: Config, records: Split, world: World) -> Split:
        return checked(config, records, world)

    def examine(self, config: Config, records: Split) -> Report:
        return examined(config, records)

    def identity(self, records: Split) -> dict[str, str]:
        return identity(records)

    def drawn_set(self, config: Config) -> DrawnSet | None:
        if config.data.format != "demo":
            return None
        images, seed = config.data.demo_images, config.seed
        return DrawnSet(
            lambda folder: render(folder, images=images, seed=seed), frozenset(("seed", "data.demo_images"))
        )

    # --- training ----------------------------------------------------------------------------------------------------

    def build(self, config: Config, records: Mapping[str, Split], last: Path | None) -> Built:
        model, preprocessor = build_model(config, records["train"], last)
        preprocessor.tasks = style_tasks(config)
        preprocessor.builder = preprocessor.builder.within(model.config.max_position_embeddings)
        check_requests(config, model, preprocessor, records)
        return built(config, model, preprocessor)

    def items(self, config: Config, built: Built, records: Split, world: World) -> TrainingItems:
        train = config.train
        cache = world.in_turn(lambda: _kept(config, built, records, world))
        groups = CaptionGroupsDataset(
            records,
            train.captions_per_image,
            config.seed,
            cache,
            captions_per_request=1 if train.objective == "scst" else train.captions_per_request,
        )
        image_dropout = train.image_dropout if train.objective == "cross-entropy" else 0.0
        return TrainingItems(groups, built.preprocessor, config.seed, image_dropout=image_dropout)

    def objective(
        self, config: Config, built: Built, records: Split, world: World
    ) -> tuple[Objective, Sequence[Observer]]:
        return build_objective(config, built.model, built.preprocessor, records, world)

    def validate(
        self, config: Config, built: Built, records: Mapping[str, Split], world: World
    ) -> Callable[[], dict[str, Any]]:
        requests, settings = records["val"].requests(), search_settings(config)
        model, preprocessor = built.model, built.preprocessor
        features = world.in_turn(lambda: feature_cache(config, model, preprocessor, records["val"], mirrored=False))
        captioner = Captioner(model, preprocessor, dtype=config.train.dtype, features=features)
        frequency: DocumentFrequency | None = None
        if world.is_main:
            frequency = table_of_split(RunFolder(config.work_dir), records["train"], config.eval.tokenizer)

        def score() -> dict[str, Any]:
            mine = shard(requests, world.rank, world.size)
            captions = merge(world.gather(captioner.caption(mine, progress=world.is_main, **settings)))
            if not world.is_main:
                return {}
            scores = evaluate_captions(
                requests,
                captions,
                scorer="stylecap",
                meteor=False,
                spice=False,
                java_timeout_s=0,
                document_frequency=frequency,
                tokenizer=config.eval.tokenizer,
            )
            return scores | {DIFFERENT: different(captions)}

        return score

    # --- evaluation --------------------------------------------------------------------------------------------------

    def open(self, config: Config, checkpoint: Path, records: Split | None) -> Built:
        model, preprocessor = open_model(config, checkpoint, records)
        return built(config, model, preprocessor)

    def needs_model(self, control: str | None) -> bool:
        return control not in WITHOUT_MODEL

    def predict(
        self, config: Config, built: Built | None, records: Split, control: str | None
    ) -> tuple[list[Caption], list[tuple[str, str]]]:
        """A caption for each request; and where no image is asked for in two styles, (image, caption) of some that
        are."""
        samples = records.requests()
        check_judging(config, records)
        extras_of(config)  # what is not there is told before captions are written
        if control == "nearest":
            known, folder = open_split(config, "train"), feature_folder(config)
            tokenizer, seed = config.eval.tokenizer, config.seed
            features = partial(pooled_features, folder=folder)
            found = nearest_captions(known, records, features, seed=seed, tokenizer=tokenizer)
            return [Caption(text, ended=True) for text in found], []
        if built is None:
            training = read_annotations(config, "train")
            constant = constant_captions(training, samples, seed=config.seed, tokenizer=config.eval.tokenizer)
            return [Caption(constant[sample.style], ended=True) for sample in samples], []
        captioner = Captioner(built.model, built.preprocessor, dtype=captioner_dtype(config))
        if control != "blank-image":
            captioner.features = _features_if_readable(config, built, records)
        asked = in_next_style(samples, records.styles) if control == "wrong-style" else samples
        settings: dict[str, Any] = {"strict": config.eval.strict, **search_settings(config)}
        settings["blank_images"] = control == "blank-image"
        images, styles_each = config.eval.sensitivity_images, config.eval.sensitivity_styles
        more = in_many_styles(samples, captioner.styles, images=images, styles_each=styles_each, seed=config.seed)
        written = captioner.write(asked, **settings)
        in_styles = captioner.write(more, **settings) if more else []
        return written, [
            (sample.image_id, one.text) for sample, one in zip(more, in_styles, strict=True) if one.fault is None
        ]

    def predicted_by(self, config: Config, control: str | None) -> dict[str, Any]:
        return predicted_by(config, control) | {"dtype": captioner_dtype(config)}

    def pack(self, predictions: Any) -> Any:
        written, in_styles = predictions
        return {"captions": [dataclasses.astuple(one) for one in written], "in_styles": in_styles}

    def unpack(self, content: Any) -> Any:
        return [Caption(*one) for one in content["captions"]], [(image, text) for image, text in content["in_styles"]]

    def judge(self, config: Config, records: Split, predictions: Any, title: str) -> Judgement:
        written, in_styles = predictions
        train = read_annotations(config, "train") if "train" in config.splits() else None
        folder = RunFolder(config.work_dir)
        keys = (
            "scorer",
            "meteor",
            "spice",
            "java_timeout_s",
            "java_memory_gb",
            "bootstrap",
            "tokenizer",
            "sentence_encoder",
        )
        judgement = judge(
            records.requests(),
            [caption.text for caption in written],
            ended=[caption.ended for caption in written],
            train=train,
            frequency=table_of_split(folder, train, config.eval.tokenizer) if train is not None else None,
            folder=folder,
            title=title,
            in_many_styles=in_styles,
            extras=extras_of(config),
            **{key: getattr(config.eval, key) for key in keys},
        )
        rows = zip(judgement.predictions, written, strict=True)
        predictions = [row | ({"error": one.fault} if one.fault is not None else {}) for row, one in rows]
        unread = len({row["image_id"] for row in predictions if "error" in row})
        return Judgement(judgement.metrics | {"unreadable_images": unread}, predictions)

    def card(self, row: Mapping[str, Any]) -> Card:
        named, score = row.get("named_style"), row.get("scores", {}).get("CIDEr-D")
        return Card(
            image=row.get("image"),
            heading=row["style"],
            text=row["caption"],
            references=row.get("references", ()),
            note=f"read as {named}" if named is not None and named != row["style"] else "",
            score=None if score is None else 100 * score,
        )


def extras_of(config: Config) -> Extras:
    """The scores that need something of the user's. ValueError for what is not there."""
    settings = config.eval
    return Extras(clip=settings.clip, objects=settings.objects, metrics=settings.metrics, tokenizer=settings.tokenizer)


def captioner_dtype(config: Config) -> Literal["float32", "bfloat16", "float16"]:
    """That of training, so that scores are those of its validation; no CPU computes in float16."""
    dtype = config.train.dtype
    return "float32" if dtype == "float16" and not torch.cuda.is_available() else dtype


def _features_if_readable(config: Config, built: Built, split: Split) -> ImageCache | None:
    """The kept features of a split. None where an image cannot be read, and that is to be a remark in its row."""
    try:
        return feature_cache(config, built.model, built.preprocessor, split, mirrored=False)
    except ValueError as error:
        if config.eval.strict:
            raise
        LOGGER.warning("features are not kept, for %s", error)
        return None


def _kept(config: Config, built: Built, split: Split, world: World) -> ImageCache | None:
    """What is kept of the training images: their features, or decoded pixels, or nothing."""
    if config.data.cache_features:
        # The tower alone: where parameters are divided over ranks, the whole may fit on none.
        built.model.encoder.embed_images.to(world.device)
        return feature_cache(config, built.model, built.preprocessor, split, mirrored=config.data.flip)
    return _image_cache(config, split) if config.data.cache_images else None


def _image_cache(config: Config, split: Split) -> ImageCache:
    side = config.data.max_image_size
    resize = ImageTransform(config.data.patch_image_size, side, train=False).resize
    file = RunFolder(config.work_dir).cache / f"train-{side}.bin"
    return ImageCache(file, split.image_paths, side, lambda path: resize(load_image(path, draft_size=side)))


TASK = Captioning()
