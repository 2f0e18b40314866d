"""The flags of the public TRAR code's `run.py`, told as a command of `finetune.py`. Standard library only.

    python -m conf.trar_flags --RUN train --MODEL trar --DATASET vqa --GPU 0,1

writes the GPUS of `scripts/trar.sh` and then the arguments of finetune.py, a line each. `FLAGS` is the one table of it:
docs/trar_flags.md shows it, `translate` follows it.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from conf.typed import read_json_object

RUNS = "work_dir/trar"
_HERE = Path(__file__).parent
_BOOL = ("True", "False")
_NO_VALIDATION = {"data.val": "null", "data.val_answers": "null"}
#: Samples of an update, and parts that it is made in, as the public code's YAML files set them.
_BATCH = {"vqa": (64, 1), "clevr": (64, 2)}


_EVERY_ANSWER = "100000"
_PUBLISHED = ".pkl"


@dataclass(frozen=True)
class Flag:
    """A flag of `run.py`.

    Attributes:
        sets: the public code's name of the setting.
        here: what stands for it here, as docs/trar_flags.md shows it.
        key: the configuration key that simply takes the value; None where `translate` does more.
        choices: values that it may have; None: any of type `kind`.
    """

    name: str
    sets: str
    here: str
    key: str | None = None
    choices: tuple[str, ...] | None = None
    kind: type = str
    required: bool = False


FLAGS = (
    Flag("RUN", "RUN_MODE", "`train`, or `eval --split val` or `test`", None, ("train", "val", "test"), required=True),
    Flag("MODEL", "MODEL", "`model.type=trar`, in both configurations", None, ("trar",), required=True),
    Flag(
        "DATASET", "DATASET", "`--conf conf/trar_vqa.json` or `trar_clevr.json`", None, ("vqa", "clevr"), required=True
    ),
    Flag(
        "SPLIT",
        "TRAIN_SPLIT",
        "`data.train` and `data.train_answers`, files with commas between; no `data.val` where val is learnt from",
        None,
        ("train", "train+val", "train+val+vg"),
    ),
    Flag("EVAL_EE", "EVAL_EVERY_EPOCH", "False: `data.val=null`", None, _BOOL),
    Flag(
        "SAVE_PRED", "TEST_SAVE_PRED", "`eval.top`: predictions.json has the probability of every answer", None, _BOOL
    ),
    Flag("BS", "BATCH_SIZE", "`train.batch_size` × `train.gradient_accumulation` × GPUs", kind=int),
    Flag("GPU", "GPU", "GPUS of the script: torchrun with a process each; `cpu` too"),
    Flag("SEED", "SEED", "`seed`", "seed", kind=int),
    Flag("VERSION", "VERSION", f"`work_dir`: {RUNS}/VERSION"),
    Flag("RESUME", "RESUME", "`train --resume`", None, _BOOL),
    Flag("CKPT_V", "CKPT_VERSION", "the run whose checkpoint is taken, as VERSION names it"),
    Flag("CKPT_E", "CKPT_EPOCH", "the epoch of that checkpoint: RUN/checkpoints/epoch-E", kind=int),
    Flag(
        "CKPT_PATH",
        "CKPT_PATH",
        "`--checkpoint`: an `epochN.pkl` or a folder; a folder is `train.resume_from` with --RESUME True",
    ),
    Flag("ACCU", "GRAD_ACCU_STEPS", "`train.gradient_accumulation`", kind=int),
    Flag("NW", "NUM_WORKERS", "`data.num_workers`", "data.num_workers", kind=int),
    Flag("PINM", "PIN_MEM", "nothing: memory is pinned where there is a GPU", None, _BOOL),
    Flag("VERB", "VERBOSE", "`--verbose`", None, _BOOL),
)


@dataclass(frozen=True)
class Command:
    """GPUS of `scripts/trar.sh`, and the arguments of finetune.py."""

    gpus: str
    arguments: tuple[str, ...]


def translate(arguments: Sequence[str]) -> Command:
    """The command for these arguments of `run.py`. A flag that is not given leaves the configuration's value.

    Raises:
        ValueError: flags that `run.py` would not take, or that do not go together.
    """
    given = _parser().parse_args(list(arguments))
    gpus = given.GPU or "cpu"
    resume = given.RESUME == "True"
    if given.RUN == "train":
        command = ["train", *(["--resume"] if resume else [])]
    else:
        command = ["eval", "--split", given.RUN]
    command += ["--conf", f"conf/trar_{given.DATASET}.json"]
    command += [] if given.VERSION is None else ["--work_dir", f"{RUNS}/{given.VERSION}"]
    command += ["--verbose"] if given.VERB == "True" else []
    sets = {flag.key: _value(getattr(given, flag.name)) for flag in FLAGS if flag.key and _has(given, flag)}
    conf = read_json_object(str(_HERE / f"trar_{given.DATASET}.json"))
    if given.RUN == "train":
        sets |= _files(given, conf["data"]) | _batch(given, ranks=gpus.count(",") + 1)
    if given.SAVE_PRED == "True" and given.RUN != "train":
        sets["eval.top"] = _EVERY_ANSWER
    checkpoint = _checkpoint(given)
    if checkpoint and given.RUN != "train":
        command += ["--checkpoint", checkpoint]
        if checkpoint.endswith(_PUBLISHED):  # it brings neither words nor settings
            model = conf["model"]
            sets |= {"model.vocabulary": model["vocabulary"], "model.config": json.dumps(model["config"])}
    elif checkpoint and checkpoint.endswith(_PUBLISHED):
        raise ValueError(
            f"{checkpoint} holds no run to go on from: evaluate it with --RUN val, or start from its weights with "
            "finetune.py train --checkpoint"
        )
    elif checkpoint and resume:
        sets["train.resume_from"] = checkpoint
    elif checkpoint:
        raise ValueError("a checkpoint with --RUN train is one to go on from: add --RESUME True")
    return Command(gpus, (*command, *(part for key, value in sets.items() for part in ("--set", f"{key}={value}"))))


def _files(given: argparse.Namespace, data: dict[str, Any]) -> dict[str, str]:
    """What is learnt from, and whether there is a split to validate on."""
    splits = (given.SPLIT or "train").split("+")
    sets = dict(_NO_VALIDATION) if "val" in splits or given.EVAL_EE == "False" else {}
    if len(splits) == 1:
        return sets
    if "vg" in splits and given.DATASET != "vqa":
        raise ValueError("--SPLIT train+val+vg is VQA's: CLEVR has train and val")
    for end in ("", "_answers"):
        files = [data.get(f"{split}{end}") for split in ("train", "val")]
        if files[0] is not None:
            kind = "annotations" if end else "questions"
            files += [str(Path(files[0]).parent / f"VG_{kind}.json")] if "vg" in splits else []
            sets[f"data.train{end}"] = ",".join(map(str, files))
    return sets


def _batch(given: argparse.Namespace, ranks: int) -> dict[str, str]:
    """The public batch is that of an update over all GPUs; ours is that of a forward pass on one."""
    if given.BS is None and given.ACCU is None and ranks == 1:
        return {}
    usual, parts = _BATCH[given.DATASET]
    size, parts = given.BS or usual, given.ACCU or parts
    if size % (parts * ranks):
        raise ValueError(
            f"--BS {size} is not divisible by --ACCU {parts} times {ranks} GPUs: each makes the same part of an update"
        )
    return {"train.batch_size": str(size // (parts * ranks)), "train.gradient_accumulation": str(parts)}


def _checkpoint(given: argparse.Namespace) -> str | None:
    """As in the public code a path comes before a run and an epoch."""
    if given.CKPT_PATH is not None:
        return given.CKPT_PATH
    if given.CKPT_V is None and given.CKPT_E is None:
        return None
    run = given.CKPT_V or given.VERSION
    if run is None or given.CKPT_E is None:
        raise ValueError("a checkpoint is named by --CKPT_V and --CKPT_E together, or by --CKPT_PATH")
    return f"{RUNS}/{run}/checkpoints/epoch-{given.CKPT_E}"


def _has(given: argparse.Namespace, flag: Flag) -> bool:
    return getattr(given, flag.name) is not None


def _value(given: str | int) -> str:
    return str(given).lower() if given in _BOOL else str(given)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; the flags are those of the public run.py, see docs/trar_flags.md")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="scripts/trar.sh", add_help=False, allow_abbrev=False)
    for flag in FLAGS:
        parser.add_argument(f"--{flag.name}", type=flag.kind, choices=flag.choices, required=flag.required)
    return parser


def main() -> int:
    try:
        command = translate(sys.argv[1:])
    except ValueError as error:
        sys.stderr.write(f"scripts/trar.sh: {error}\n")
        return 2
    sys.stdout.write("\n".join((command.gpus, *command.arguments)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
