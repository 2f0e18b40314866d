"""Typed configuration: dataclasses read from a JSON file, `--set key=value` overrides and command-line flags.

`task` chooses which sections there are (`conf/captioning.py` declares those of captioning). A setting's default,
meaning, limits and flag stand in its declaration and nowhere else: the JSON reader, `--help` and
`finetune.py conf --schema` all read them from there. Layers override each other: file < `--set` < flag. Relative paths
mean relative to the current working directory, as for any command. Imports the standard library only.
"""

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Literal

from conf.answering import AnsweringConfig
from conf.captioning import (
    DataConfig,
    EvalConfig,
    ModelConfig,
    ScstConfig,
    StyleConfig,
    StyleMatchingConfig,
    StyleMlmConfig,
    TrainConfig,
)
from conf.common import RUNS as RUNS
from conf.common import TaskConfig
from conf.legacy import FOLDER, translate
from conf.pretraining import PretrainingConfig
from conf.typed import Entry, Key, build, describe, flatten, json_or_text, keys_of, opt, read_json_object

CAPTIONING = "stylish-image-captioning"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(TaskConfig):
    """Stylish image captioning."""

    task: Literal["stylish-image-captioning"] = opt(CAPTIONING, "the ModelScope task")
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    style: StyleConfig = dataclasses.field(default_factory=StyleConfig)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    style_mlm: StyleMlmConfig = dataclasses.field(default_factory=StyleMlmConfig)
    style_matching: StyleMatchingConfig = dataclasses.field(default_factory=StyleMatchingConfig)
    scst: ScstConfig = dataclasses.field(default_factory=ScstConfig)
    eval: EvalConfig = dataclasses.field(default_factory=EvalConfig)

    def check(self) -> Iterator[str]:
        yield from super().check()
        if self.data.cache_features and not (self.train.freeze_resnet or self.train.lora):
            yield (
                "data.cache_features needs an image tower that does not change: set train.freeze_resnet to true, or "
                "data.cache_features to false"
            )
        if self.style_mlm.place == "decoder" and self.style.place != "decoder":
            yield (
                'style_mlm.place = "decoder" shares a pass of the encoder in which no style stands: set style.place to '
                '"decoder", or style_mlm.place to "encoder"'
            )
        if self.style_mlm.style_token_alone and not self.style.tokenize_style:
            yield "style_mlm.style_token_alone needs styles that are tokens: set style.tokenize_style to true"
        if self.train.objective != "scst":
            return
        if self.model.checkpoint is None:
            yield (
                'train.objective = "scst" goes on from step 1: set model.checkpoint (or --checkpoint) to its checkpoint'
            )
        if not any(self.scst.rewards.values()):
            yield 'scst.rewards has no weight other than 0; give one reward a weight, such as {"cider-d": 1.0}'
        if self.scst.baseline == "leave_one_out" and self.scst.num_candidates == 1:
            yield (
                'scst.baseline = "leave_one_out" compares a candidate with the others, and scst.num_candidates = 1; '
                'set scst.num_candidates to 2 or more, or scst.baseline to "greedy"'
            )

    def reader_arguments(self, split: str) -> dict[str, Any]:
        """Keyword arguments for `data.read_split(split, ...)`. ValueError when the split has no annotations."""
        data = self.data
        if data.format == "demo":
            root = self.demo_dir()
            paths = {"annotations": f"{root}/{split}.json", "image_dir": f"{root}/images"}
            return {"format": "personality", **paths, "styles": f"{root}/personalities.txt"}
        annotations = getattr(data, split, None) if split in ("train", "val", "test") else None
        if annotations is None:
            raise ValueError(f'the configuration has no split "{split}": set data.{split} to its annotation file')
        names = ("format", "image_dir", "styles", "image_suffix", "default_style")
        arguments = {"annotations": annotations, **{name: getattr(data, name) for name in names}}
        if data.format in ("table", "messages"):
            shared = [name for name in ("train", "val", "test") if getattr(data, name) == annotations]
            arguments |= {"columns": data.columns, "unpack_to": os.path.join(self.work_dir, "cache", "pictures")}
            arguments |= {"shared": shared, "held_out": data.held_out if len(shared) > 1 else 0.0}
        return arguments

    def splits(self) -> list[str]:
        """The splits that have annotations."""
        return [name for name in ("train", "val", "test") if self.data.format == "demo" or getattr(self.data, name)]

    def demo_dir(self) -> str:
        """Where the rendered data set of data.format = "demo" lies."""
        return os.path.join(self.work_dir, "demo_data")


# --- the configurations of tasks -------------------------------------------------------------------------------------

CONFIGS: dict[str, type[TaskConfig]] = {}
"""Task -> its configuration."""
KEYS: dict[str, Key] = {}
"""Every setting of any task by its dotted name; captioning's declaration where several have it."""
FLAGS: dict[str, str] = {}
"""Command-line flag -> key."""


def register(config: type[TaskConfig]) -> type[TaskConfig]:
    """Makes the configuration of a task known by the default of its field `task`."""
    keys = keys_of(config)
    CONFIGS[keys["task"].default] = config
    for name, key in keys.items():
        KEYS.setdefault(name, key)
        if key.metadata["flag"]:
            FLAGS.setdefault(key.metadata["flag"], name)
    return config


register(Config)
register(AnsweringConfig)
register(PretrainingConfig)
FLAT = {key.metadata["flat"]: name for name, key in KEYS.items() if key.metadata["flat"]}
"""Flat key of older configurations -> key."""


# --- layers: file, --set, flags --------------------------------------------------------------------------------------


def _merge(entries: Iterable[tuple[str, Entry]], brought: tuple[str, ...]) -> dict[str, Entry]:
    """The winning entry of every key; `brought`: beginnings of the keys that a checkpoint settles. ValueError when two
    names of one setting disagree in one layer."""
    merged: dict[str, Entry] = {}
    for key, entry in entries:
        other = merged.get(key)
        if other and other.layer == entry.layer and other.name != entry.name and other.value != entry.value:
            raise ValueError(
                f"{entry.where}: {other.name} = {json.dumps(other.value)} and {entry.name} = {json.dumps(entry.value)} "
                "are the same setting; keep one of them"
            )
        if other is None or entry.layer >= other.layer:
            merged[key] = entry
    start = merged.get("model.checkpoint")
    if start and start.value is not None and start.layer > 0:
        # A checkpoint asked for on the command line brings its own shape and vocabulary: the file's no longer apply.
        return {key: entry for key, entry in merged.items() if entry.layer > 0 or not key.startswith(brought)}
    return merged


# --- public ----------------------------------------------------------------------------------------------------------


def _set_entries(text: str, keys: Mapping[str, Key]) -> list[Entry]:
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise ValueError(f"--set {text}: expected key=value, such as --set train.lr=2e-5")
    declared = keys.get(FLAT.get(key, key))
    parsed = declared.from_text(value) if declared else value if key == FOLDER else json_or_text(value)
    section, dot, leaf = key.partition(".")
    nested = {section: {leaf: parsed}} if dot else {key: parsed}
    return [Entry(item, "--set", 1, name) for name, item in flatten(nested, keys, (*FLAT, FOLDER), "--set").items()]


def parse_config(
    document: Mapping[str, Any],
    *,
    sets: Iterable[str] = (),
    flags: Mapping[str, str | None] | None = None,
    where: str = "configuration",
) -> Any:
    """A checked configuration of the task that is asked for, from the content of a file and overrides; `where` names it
    in errors.

    See `load_config`. A top-level "_about" is the file's comment and is dropped.
    """
    about = document.get("_about", "")
    if not isinstance(about, str):
        raise ValueError(f"{where}: _about = {json.dumps(about)} must be a string: it is the file's comment")
    settings = {key: value for key, value in document.items() if key != "_about"}
    sets = list(sets)
    kind = _kind(settings, sets, where)
    keys = keys_of(kind)
    entries = [Entry(item, where, 0, key) for key, item in flatten(settings, keys, (*FLAT, FOLDER), where).items()]
    for text in sets:
        entries += _set_entries(text, keys)
    for name, given in (flags or {}).items():
        if given is not None:
            full = FLAGS.get(name, name)
            if full not in keys:
                raise ValueError(
                    f"--{name} sets {full}, which the task {keys['task'].default} does not have: leave it out"
                )
            entries.append(Entry(keys[full].from_text(given), f"--{name}", 2, full))
    config = build(kind, keys, _merge(translate(entries, FLAT), kind.brought_by_checkpoint))
    for problem in config.check():
        raise ValueError(f"{where}: {problem}")
    return config


def _kind(settings: Mapping[str, Any], sets: Iterable[str], where: str) -> type[TaskConfig]:
    """The configuration of the task that is asked for; captioning where none is."""
    named = [text.partition("=")[2] for text in sets if text.partition("=")[0].strip() == "task"]
    task = named[-1] if named else settings.get("task", CAPTIONING)
    if not isinstance(task, str) or task not in CONFIGS:
        near = get_close_matches(str(task), CONFIGS, n=1)
        hint = f'did you mean "{near[0]}"?' if near else f"there are {', '.join(CONFIGS)}"
        raise ValueError(f"{where}: task = {json.dumps(task)} must be one of the tasks; {hint}")
    return CONFIGS[task]


def load_config(
    path: str | os.PathLike[str], sets: Iterable[str] = (), flags: Mapping[str, str | None] | None = None
) -> Any:
    """Reads and checks a JSON configuration.

    sets: "key=value" overrides with dotted keys, the value JSON or else text; later ones win. flags: values (text) by
    the names in `FLAGS` or by key, None = not given. Raises FileNotFoundError, or ValueError with file, key, value and
    remedy.
    """
    where = os.fspath(path)
    return parse_config(read_json_object(where), sets=sets, flags=flags, where=where)


def schema(task: str = CAPTIONING) -> list[dict[str, Any]]:
    """Every key of a task as {"key", "type", "default", "limits", "flag", "flat", "meaning"}, JSON-able."""
    return [
        {"key": name, "type": describe(key.kind), "default": key.default, "limits": key.limits}
        | {part: key.metadata[part] for part in ("flag", "flat", "meaning")}
        for name, key in keys_of(_kind({"task": task}, (), "--task")).items()
    ]


def schema_text(task: str = CAPTIONING) -> str:
    """The schema for people: key, default, type and limits, other names, and below them the meaning."""
    blocks = []
    for row in schema(task):
        limits = f", {row['limits']}" if row["limits"] else ""
        other = f"  --{row['flag']}" if row["flag"] else ""
        other += f"  flat: {row['flat']}" if row["flat"] else ""
        default = json.dumps(row["default"])
        blocks.append(f"{row['key']} = {default}  ({row['type']}{limits}){other}\n    {row['meaning']}")
    blocks.append(f"{FOLDER}  (flat only)\n    folder of train_json, val_json, test_json and personalities.txt")
    return "\n".join(blocks)


def schema_markdown() -> str:
    """The schema of every task as a page, `docs/configuration.md`; what all tasks have stands once."""
    lines = [
        "# Configuration",
        "",
        "Made by `python finetune.py conf --schema --markdown`; a test keeps it so. A key is set in the JSON file, by",
        "`--set key=value`, or by its flag; later ones win. `task` chooses the keys.",
    ]
    shown: set[tuple[str, str]] = set()
    for task in CONFIGS:
        rows = [row for row in schema(task) if (row["key"], row["meaning"]) not in shown]
        shown |= {(row["key"], row["meaning"]) for row in rows}
        lines += ["", f"## {task}", "", "| key | default | type | meaning |", "| --- | --- | --- | --- |"]
        for row in rows:
            kind = row["type"] + (f", {row['limits']}" if row["limits"] else "")
            flag = f" `--{row['flag']}`" if row["flag"] else ""
            cells = (f"`{row['key']}`{flag}", f"`{json.dumps(row['default'])}`", kind, row["meaning"])
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)
