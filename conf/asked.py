"""The configuration that a command line asks for."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from conf.command_line import DEFAULT_CONF
from config import FLAGS, load_config


def configuration_of(args: argparse.Namespace) -> Any:
    """The configuration that the file, `--set` and flags of a command line amount to."""
    flags = {name: getattr(args, name, None) for name in FLAGS}
    if args.command in ("eval", "inference", "predict"):
        # These name the model to run and the captions decoded together; what was trained, and how, stays as it is.
        flags["eval.batch_size"] = flags.pop("batch_size")
        del flags["checkpoint"]
    sets = getattr(args, "sets_before", []) + getattr(args, "sets_after", [])
    if getattr(args, "guidance", None) is not None:
        sets = [*sets, f"eval.style_guidance={args.guidance}"]
    return load_config(getattr(args, "conf", None) or _default_conf(), sets, flags)


def _default_conf() -> str:
    """The default configuration of this folder, else that of the checkout: commands work from any folder."""
    beside = Path(__file__).resolve().parents[1] / DEFAULT_CONF
    return str(beside) if beside.is_file() and not Path(DEFAULT_CONF).exists() else DEFAULT_CONF


def refuse_configuration(args: argparse.Namespace) -> None:
    """ValueError where a command that reads no configuration was given some of it."""
    for name in ("conf", "sets_before", "sets_after", *FLAGS):
        if hasattr(args, name):
            option = "set" if name.startswith("sets_") else name
            raise ValueError(f"{args.command} reads no configuration: leave --{option} out")


def with_eval(config: Any, given: dict[str, Any]) -> Any:
    """The configuration with settings of `eval` from options. ValueError for one that its task does not have."""
    for name in given:
        if not hasattr(config.eval, name):
            raise ValueError(f"--{name}: the task {config.task} has no eval.{name}: leave it out")
    config = replace(config, eval=replace(config.eval, **given))
    for problem in config.check():
        raise ValueError(f"command line: {problem}")
    return config
