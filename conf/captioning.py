"""Sections of stylish image captioning. Imports the standard library only."""
# ruff: noqa: RUF009  opt() declares a dataclass field

import dataclasses
import json
import math
from collections.abc import Iterator
from typing import Any, Literal

from conf.common import LoopConfig, ScoringConfig
from conf.legacy import Size
from conf.lora import contradictions, problems
from conf.typed import opt

# Those of validation: no training run waits for a JVM.
Metric = Literal["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr", "CIDEr-D"]
DERIVED = {
    "vocab_size": "model.vocabulary_size",
    "dropout": "train.dropout",
    "encoder_drop_path_rate": "train.drop_path",
    "decoder_drop_path_rate": "train.drop_path",
    "feature_dropout": "train.feature_dropout",
}
"""OFAConfig fields that have a key of their own."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which OFA to start from: a checkpoint, or a new model of a preset or of a shape of its own."""

    preset: Size | None = opt(
        None, "size of a new model; with a checkpoint only for a fairseq .pt file, which does not name its size"
    )
    checkpoint: str | None = opt(
        None,
        "start from these weights: a directory, a fairseq .pt file, or a ModelScope hub id such as "
        "damo/ofa_pretrain_base_en (the one thing that may be downloaded)",
        flag="checkpoint",
        flat="model_name",
    )
    revision: str | None = opt(
        None, "revision of a hub id, such as v1.0.2; null = the hub's default", flat="model_revision"
    )
    config: dict[str, Any] = opt({}, "OFAConfig fields that override the preset's or describe a model without one")
    vocabulary: str | None = opt(
        None,
        'null = the checkpoint\'s; a directory with vocab.json and merges.txt; or "train" = learn byte-level '
        "BPE from the training captions",
    )
    vocabulary_size: int = opt(8000, "entries of a vocabulary that is trained, its 256 bytes included", low=300)
    resnet_weights: str | None = opt(
        None, "torchvision-format ResNet file; its stem and first three stages start the image tower of a new model"
    )

    def check(self) -> Iterator[str]:
        """What contradicts what, with its remedy."""
        for name in sorted(DERIVED.keys() & self.config.keys()):
            yield f"model.config.{name} is set by {DERIVED[name]}; set that instead"
        if self.checkpoint is None:
            if self.preset is None and not self.config:
                yield "no model: set model.checkpoint (existing weights), or model.preset or model.config (a new model)"
            if self.vocabulary is None:
                yield 'a new model needs model.vocabulary: "train", or a directory with vocab.json and merges.txt'
            if self.revision is not None:
                yield "model.revision needs a hub id in model.checkpoint"
            return
        if self.vocabulary == "train":
            yield (
                'model.vocabulary = "train" contradicts model.checkpoint, whose embeddings belong to its own '
                "vocabulary; set model.vocabulary to null"
            )
        if self.resnet_weights is not None:
            yield "model.resnet_weights would overwrite the image tower of model.checkpoint; remove one of them"
        if self.preset is not None and not self.checkpoint.endswith(".pt"):
            yield "model.preset contradicts model.checkpoint, which has its own size; remove one of them"


@dataclasses.dataclass(frozen=True, kw_only=True)
class StyleConfig:
    """How the asked style reaches the model."""

    prompt: str = opt(
        " what does the image describe? write a {} reply.", "prompt with one {} for the style", flat="prompt"
    )
    tokenize_style: bool = opt(
        True,
        "true: a style is one token <code_k> of the vocabulary; false: the prompt spells its name",
        flat="tokenize_style",
    )
    unknown_style: Literal["error", "token"] = opt(
        "error", "a style outside the style map is an error, or becomes one token reserved for that"
    )
    place: Literal["prompt", "decoder"] = opt(
        "prompt",
        "where the style stands: in the prompt; or in the decoder, where a caption starts with the style's token "
        "instead of bos, and all styles of an image share one pass of the encoder",
    )
    style_map: str | None = opt(None, "JSON {style: token} to use; null = the checkpoint's, else made from data.styles")

    def check(self) -> Iterator[str]:
        """What contradicts what, with its remedy."""
        if self.prompt.count("{}") != 1 or self.prompt.count("{") + self.prompt.count("}") != 2:
            yield f"style.prompt = {json.dumps(self.prompt)} must hold {{}} once and no other brace"
        if self.unknown_style == "token" and not self.tokenize_style:
            yield 'style.unknown_style = "token" needs style.tokenize_style = true'
        if self.place == "decoder" and not self.tokenize_style:
            yield 'style.place = "decoder" needs style.tokenize_style = true: a caption starts with one token'


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Annotations, images, and how they are read."""

    format: Literal["personality", "coco", "karpathy", "table", "messages", "demo"] = opt(
        "personality",
        "annotation format; table = CSV, JSONL, Parquet or tars of one's own, messages = conversations with images, "
        "demo = a set rendered under work_dir, needing no files",
    )
    columns: dict[str, Any] = opt(
        {}, "of a table: the columns that are image, caption, style, split or id, where their names do not tell"
    )
    held_out: float = opt(
        0.1, "share of the images that val, and test, get where they name the same table as train", above=0, below=0.5
    )
    image_dir: str | None = opt(None, "folder of the images; null = beside a table", flat="img_addr")
    train: str | None = opt(None, "annotation file to train on", flat="train_json")
    val: str | None = opt(None, "annotation file to choose the best checkpoint by", flat="val_json")
    test: str | None = opt(None, "annotation file for the final evaluation", flat="test_json")
    styles: str | None = opt(None, "list of styles, one a line; null = the styles of the annotations")
    image_suffix: str = opt(
        ".jpg", 'appended to an image name to find its file; "" if names have their suffix', flat="file_attr"
    )
    default_style: str = opt("Factual", "style of the captions of formats that have none")
    skip_bad: bool = opt(False, "leave out faulty records (missing images, ...) instead of refusing the data set")
    patch_image_size: int = opt(224, "side of the square the model sees, in pixels", low=32, flag="patch_image_size")
    max_image_size: int = opt(
        256, "side to which images are resized before the crop to patch_image_size", low=32, flag="max_image_size"
    )
    flip: bool = opt(False, "mirror training images half of the time")
    max_tgt_length: int = opt(30, "words of a training caption that are kept", low=1)
    lowercase: bool = opt(False, "train on captions in lower case (scores ignore case)")
    num_workers: int = opt(2, "processes that load images; 0 = load in the training process", low=0, flag="num_workers")
    cache_images: bool = opt(False, "keep decoded, resized images in memory (bytes: 3 x max_image_size^2 each)")
    cache_features: bool = opt(
        False, "compute the features of a frozen image tower once and keep them: no convolution in training"
    )
    feature_dir: str | None = opt(None, "folder of kept features, for runs to share; null = the run's own cache")
    demo_images: int = opt(3000, "images of the rendered set, all splits together", low=1)

    def check(self) -> Iterator[str]:
        """What contradicts what, with its remedy."""
        if self.format == "demo":
            for name in ("image_dir", "train", "val", "test", "styles"):
                if getattr(self, name) is not None:
                    yield f'data.{name} contradicts data.format = "demo", which renders its own; remove one of them'
        else:
            if self.image_dir is None and self.format not in ("table", "messages"):
                yield f'data.format = "{self.format}" needs data.image_dir (or the flat key img_addr)'
            if not (self.train or self.val or self.test):
                yield f'data.format = "{self.format}" needs annotations: data.train, data.val, data.test'
        for what, name in self.columns.items():
            if what not in ("image", "caption", "style", "split", "id") or not isinstance(name, str):
                yield f"data.columns has {what!r}: name columns for image, caption, style, split or id, each a text"
        if self.patch_image_size > self.max_image_size:
            yield (
                f"data.patch_image_size = {self.patch_image_size} is cut out of data.max_image_size = "
                f"{self.max_image_size}; set data.max_image_size to {self.patch_image_size} or more"
            )
        if self.cache_features and self.patch_image_size != self.max_image_size:
            yield (
                f"data.cache_features keeps features of whole images, and data.patch_image_size = "
                f"{self.patch_image_size} is a crop of data.max_image_size = {self.max_image_size}; make them equal"
            )
        if self.cache_features and self.cache_images:
            yield "data.cache_features leaves no image to load; set data.cache_images to false"
        if self.image_suffix and not self.image_suffix.startswith("."):
            yield f'data.image_suffix = "{self.image_suffix}" must start with a dot: ".{self.image_suffix}"'


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig(LoopConfig):
    """Objective and regularisation, beside what every training is told."""

    objective: Literal["cross-entropy", "scst"] = opt(
        "cross-entropy", "what is optimised: step 1, or step 2 (self-critical training, section scst)", flag="objective"
    )
    captions_per_image: int = opt(1, "most captions of an image that share its forward pass", low=1)
    captions_per_request: int | None = opt(
        None, "most captions of an image in one style that an epoch reads, drawn anew each time; null = all", low=1
    )
    label_smoothing: float = opt(0.1, "probability mass spread over the vocabulary", low=0, below=1)
    drop_worst_ratio: float = opt(0.0, "share of the tokens with the highest loss that is ignored", low=0, below=1)
    drop_worst_after: int = opt(0, "optimizer steps before drop_worst_ratio applies", low=0)
    rdrop_alpha: float = opt(0.0, "weight of the R-drop consistency loss (two dropout passes); 0 = off", low=0)
    dropout: float = opt(0.1, "dropout of embeddings and sublayers", low=0, below=1)
    drop_path: float = opt(0.1, "stochastic depth of the last layer, rising linearly from the first", low=0, below=1)
    feature_dropout: float = opt(0.0, "share of an image's feature channels that are set to 0", low=0, below=1)
    image_dropout: float = opt(
        0.0,
        "share of training images that the model is not shown (step 1), so that eval.image_guidance can ask it",
        low=0,
        below=1,
    )
    tower_lr: float | None = opt(
        None, "peak learning rate of the image tower, on the same schedule; null = train.lr", above=0
    )
    freeze_resnet: bool = opt(False, "do not train the image tower", flag="freeze_resnet")
    freeze_embeddings: bool = opt(False, "do not train the token embeddings")
    lora: dict[str, Any] = opt(
        {},
        "train low-rank matrices beside frozen weights, and the styles' tokens (EXTRAS=lora): "
        '{"rank": 8, "alpha": 16, "targets": ["q_proj", "v_proj"], "dropout": 0}, of which "rank" must be given; '
        "{} = train the weights themselves",
    )
    best_metric: Metric = opt("CIDEr", "validation score that names the best checkpoint")

    def check(self) -> Iterator[str]:
        yield from super().check()
        if self.rdrop_alpha > 0 and self.dropout == 0 and self.drop_path == 0:
            yield (
                "train.rdrop_alpha compares two random passes, which train.dropout = 0 and train.drop_path = 0 make "
                "equal; set train.rdrop_alpha to 0 or train.dropout above 0"
            )
        if self.tower_lr is not None and self.freeze_resnet:
            yield "train.tower_lr trains the image tower, which train.freeze_resnet keeps as it is; remove one of them"
        if self.lora:
            yield from problems(self.lora)
            yield from contradictions(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StyleMlmConfig:
    """Step 1's masked-style tasks, learnt beside captioning: one question each about an image and its captions.

    A weight is that of a token of the answer, beside 1 for a caption's; a task of weight 0 is off.
    """

    mask_style_weight: float = opt(0.0, "weight of naming the style that is masked in a prompt with the caption", low=0)
    mask_caption_weight: float = opt(0.0, "weight of restoring a caption with masked words, given its style", low=0)
    mask_ratio: float = opt(0.3, "share of a caption's words that are masked", above=0, below=1)
    style_token_alone: bool = opt(
        False, "of the prompt that names the masked style, learn the style's token alone, not its other words"
    )
    place: Literal["encoder", "decoder"] = opt(
        "encoder",
        "where questions, those of style_matching too, are read: in the encoder, each with a pass of its own; or in "
        'the decoder, from the pass that the captions have (needs style.place = "decoder")',
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class StyleMatchingConfig:
    """Step 1's matching task: does a caption belong to an image and a style?"""

    weight: float = opt(0.0, "weight of answering yes, no or personality; 0 = off", low=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScstConfig:
    """Step 2: self-critical sequence training."""

    candidates: Literal["multinomial", "beam"] = opt("multinomial", "how candidate captions are drawn")
    num_candidates: int = opt(5, "candidates of each image and style", low=1)
    temperature: float = opt(1.0, "divides the logits that multinomial candidates are drawn from", above=0)
    top_k: int = opt(0, "draw from the k most probable tokens only; 0 = all", low=0)
    top_p: float = opt(1.0, "draw from the smallest set of tokens with this probability; 1 = all", above=0, high=1)
    max_len_b: int = opt(16, "most tokens of a candidate, the end token not counted", low=1)
    baseline: Literal["greedy", "leave_one_out", "group_mean", "batch_mean"] = opt(
        "leave_one_out",
        "what a candidate's reward is compared with: the greedy caption's, the mean of the other candidates', of all "
        "candidates', or of the batch",
    )
    normalise_advantages: Literal["none", "group", "batch"] = opt(
        "none", "divide advantages by their standard deviation over the candidates of an image, or over the batch"
    )
    reduction: Literal["sequence", "token", "constant", "batch"] = opt(
        "sequence",
        "a candidate's loss is its tokens' sum, their mean (token), or their sum over max_len_b + 1 (constant); "
        "the loss is the mean over candidates; batch = the mean over all tokens of the batch",
    )
    updates_per_rollout: int = opt(
        1, "steps of the optimizer on the same candidates; a step of the run is one rollout", low=1
    )
    clip: float = opt(
        0.2, "with several updates a rollout: how far the ratio of probabilities is followed from 1", above=0, below=1
    )
    clip_high: float | None = opt(None, "the same above 1; null = clip", above=0)
    mask_truncated: bool = opt(False, "learn nothing from candidates that did not end within max_len_b tokens")
    entropy_weight: float = opt(0.0, "weight of the mean entropy of a token, in nats, which it keeps high", low=0)
    cross_entropy_weight: float = opt(0.0, "weight of step 1's loss on the images' own captions", low=0)
    kl_weight: float = opt(0.0, "weight of the divergence from the model that step 2 starts from", low=0)
    rewards: dict[str, Any] = opt(
        {"cider-d": 1.0},
        "reward -> weight; a reward of weight 0 is only logged; file:PATH.py:FUNCTION and http://HOST:PORT are rewards "
        "of your own",
    )
    normalise_rewards: bool = opt(False, "bring each reward to mean 0, deviation 1 over its group before weighting")
    soft_references: float = opt(
        0.0, "weight of an image's captions in other styles as references, beside the asked style's", low=0, high=1
    )
    shared_ngram_weight: float = opt(
        1.0,
        "what n-grams of the asked style's references count in the reward cider-d that the image's captions in other "
        "styles have as well; below 1 what sets the style apart counts more; 1 = all alike",
        low=0,
        high=1,
    )
    document_frequency: str | None = opt(None, "CIDEr-D's table from a file; null = counted in the training captions")
    workers: int = opt(2, "threads that compute rewards", low=1)
    http_timeout_s: float = opt(10.0, "seconds that a reward's server may take to answer", above=0)
    http_retries: int = opt(2, "how often a request to a reward's server is repeated that failed", low=0)
    samples_every: int = opt(
        100, "updates between two entries of samples.jsonl: sampled captions with their rewards; 0 = none", low=0
    )

    def check(self) -> Iterator[str]:
        """What contradicts what, with its remedy."""
        for name, weight in self.rewards.items():
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
                yield f"scst.rewards: the weight of {name} is {json.dumps(weight)}; it must be a number"
        if self.shared_ngram_weight != 1 and "cider-d" not in self.rewards:
            yield (
                f"scst.shared_ngram_weight = {self.shared_ngram_weight:g} is of the reward cider-d, which scst.rewards "
                "does not have: add it, or set scst.shared_ngram_weight to 1"
            )
        if self.clip_high is not None and self.updates_per_rollout == 1:
            yield (
                "scst.clip_high limits ratios, which are 1 where scst.updates_per_rollout = 1; set the latter to 2 or "
                "more, or scst.clip_high to null"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalConfig(ScoringConfig):
    """Decoding and scores of captions."""

    beam_size: int = opt(5, "beams; 1 = greedy", low=1, flag="beam_size")
    max_len_b: int = opt(16, "most tokens of a caption, the end token not counted", low=1, flag="max_len")
    min_len: int = opt(1, "fewest tokens of a caption", low=0)
    no_repeat_ngram_size: int = opt(3, "no n-gram of this length appears twice in a caption; 0 = allowed", low=0)
    length_penalty: float = opt(1.0, "scores are divided by length to this power; above 1 favours long captions")
    no_end_after: tuple[str, ...] = opt(
        (), 'words that no caption ends with, unless it is as long as max_len_b: those that lead to another, as "a"'
    )
    style_guidance: float | dict[str, Any] = opt(
        0.0,
        "how far decoding goes away from the image's other styles: 0 = not at all, or an object {style: number}",
    )
    style_intensity: float = opt(
        1.0, "how strong the asked style is: 1 = as trained, 0 = no style in particular, above 1 = further than trained"
    )
    image_guidance: float = opt(0.0, "how far decoding goes away from what is said without the image; 0 = not at all")
    scorer: Literal["stylecap", "pycocoevalcap"] = opt(
        "stylecap", "this project's scorers (no Java for BLEU, ROUGE, CIDEr), or the original tool chain"
    )
    sentence_encoder: str | None = opt(
        "minilm",
        "encoder behind SBERT-sim and a second judge of style: minilm (EXTRAS=towers; left out without it), a folder "
        "of transformers, or null",
    )
    clip: str | None = opt(
        None, "folder of a CLIP model of transformers, for CLIPScore and RefCLIPScore; null = neither"
    )
    objects: str | None = opt(None, "objects in the images, as COCO's instances JSON has them, for CHAIR; null = none")
    metrics: dict[str, Any] = opt(
        {}, "metrics of your own: name -> file:PATH.py:FUNCTION, or an entry point of the group stylecap.metrics"
    )
    tokenizer: Literal["ptb", "characters"] = opt(
        "ptb", "what scores and rewards count: words of English, or characters (Chinese, Japanese, Thai, ...)"
    )
    meteor: bool = opt(True, "score METEOR where Java is installed")
    spice: bool = opt(True, "score SPICE where Java and the CoreNLP jars are installed")
    java_timeout_s: int = opt(600, "seconds before a Java scorer is given up", low=1)
    java_memory_gb: int = opt(8, "most memory of a Java scorer, in GB", low=1)
    sensitivity_images: int = opt(
        50, "images captioned in several styles to see what the style changes, where the split has none such", low=0
    )
    sensitivity_styles: int = opt(10, "styles in which each of them is captioned", low=2)

    def check(self) -> Iterator[str]:
        yield from super().check()
        if self.min_len > self.max_len_b:
            yield f"eval.min_len = {self.min_len} is above eval.max_len_b = {self.max_len_b}; lower it"
        for name, source in self.metrics.items():
            if not isinstance(source, str):
                yield f"eval.metrics: {name} is {json.dumps(source)}; it must be a string that names a function"
        for style, strength in self.style_guidance.items() if isinstance(self.style_guidance, dict) else ():
            if isinstance(strength, bool) or not isinstance(strength, int | float) or not math.isfinite(strength):
                yield f"eval.style_guidance: the strength of {style} is {json.dumps(strength)}; it must be a number"
        if self.tokenizer != "ptb" and self.scorer != "stylecap":
            yield f'eval.scorer = "{self.scorer}" brings its own tokenizer: set eval.scorer to "stylecap"'
