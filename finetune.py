"""Stylecap's command line: train | eval | inference | doctor | conf.

Parses, validates and wires; the work is done elsewhere. Importing this module and answering --help load nothing but the
standard library: each command imports what it needs. Exit codes: 0 done; 1 a bug (with its traceback), or faults that
`doctor` found; 2 a mistake in the command, the configuration or the data, in one line on stderr; 130 interrupted.
Only results go to stdout: the JSON of `eval`, captions, reports and configurations.
"""

import argparse
import contextlib
import json
import logging
import os
import re
import sys
import typing
from collections.abc import Sequence
from typing import Any

from config import FLAGS, KEYS, Config, load_config, schema, schema_text

LOGGER = logging.getLogger("stylecap")
PROGRAM = "finetune.py"
DEFAULT_CONF = "train_conf.json"
_TORCHRUN = (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, whichever subcommand they are in."""

    def error(self, message: str) -> typing.NoReturn:
        self.exit(2, f"{PROGRAM}: error: {message} (see {self.prog} --help)\n")


# --- commands: (config, arguments) -> exit code ----------------------------------------------------------------------


def train(config: Config, args: argparse.Namespace) -> int:
    """Train, and keep the best checkpoint in work_dir."""
    if args.resume and getattr(args, "checkpoint", None):
        raise ValueError("--resume continues the run in work_dir and --checkpoint starts a new one; give one of them")
    with _results_only():
        from trainers.build import run_training

        # What torchrun tells a process about itself; nothing else is read from the environment.
        rank, ranks, local = (int(os.environ.get(name, default)) for name, default in _TORCHRUN)
        result = run_training(config, resume=args.resume, rank=rank, ranks=ranks, local_rank=local)
    LOGGER.info("%s", json.dumps(result))
    return 0


def evaluate(config: Config, args: argparse.Namespace) -> int:
    """Caption a split, score it, and write the scores to stdout as one line of JSON.

    --checkpoint names the model to score; without it, the best one in work_dir is. --control scores, in its place, the
    model that sees no image (blank-image) or is asked for another style (wrong-style), or no model (constant).
    """
    with _results_only():
        from metrics.evaluation import run_evaluation

        checkpoint, split = getattr(args, "checkpoint", None), args.split or config.eval.split
        scores = run_evaluation(config, checkpoint, split, args.control)
    _write(json.dumps(scores))
    return 0


def inference(config: Config, args: argparse.Namespace) -> int:
    """Caption images in the asked styles: a line `image<TAB>style<TAB>caption` each.

    --checkpoint names the model to use; without it, the best one in work_dir is. Without --style, images are captioned
    in every style that the model knows, and those of a split in the styles that it has for them.
    """
    # A comma inside parentheses belongs to the name: "Articulate (Well-spoken, Expressive)".
    styles = [style.strip() for style in re.split(r",(?![^()]*\))", args.style)] if args.style else None
    with _results_only():
        from metrics.inference import run_inference

        captions = run_inference(
            config,
            checkpoint=getattr(args, "checkpoint", None),
            images=args.image,
            styles=styles,
            json_file=args.json,
            random_n=args.random,
            split=args.split or config.eval.split,
            output=args.output,
        )
    for caption in captions:
        _write(f"{caption['image']}\t{caption['style']}\t{caption['caption']}")
    return 0


def doctor(config: Config, args: argparse.Namespace) -> int:
    """Look for faults in the data set; exit code 1 when there are any."""
    with _results_only():
        from data import read_split
        from data.demo import render
        from data.doctor import examine

        if config.data.format == "demo":
            render(config.demo_dir(), images=config.data.demo_images, seed=config.seed)
        reports = {
            name: examine(read_split(name, **config.reader_arguments(name)), max_words=config.data.max_tgt_length)
            for name in config.splits()
        }
    if args.json:
        _write(json.dumps({name: report.to_json() for name, report in reports.items()}))
    else:
        _write("\n\n".join(report.to_text() for report in reports.values()))
    return 1 if any(report.faults for report in reports.values()) else 0


def conf(config: Config, args: argparse.Namespace) -> int:
    """Print the configuration that the file and the overrides amount to."""
    _write(json.dumps(config.to_dict(), indent=2))
    return 0


def print_schema(args: argparse.Namespace) -> int:
    """Print every key with its type, default and meaning; needs no configuration file."""
    _write(json.dumps(schema(), indent=2) if args.json else schema_text())
    return 0


def _results_only() -> contextlib.AbstractContextManager[Any]:
    """Sends what libraries print to stderr, so that stdout holds results only."""
    return contextlib.redirect_stdout(sys.stderr)


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


# --- the parser ------------------------------------------------------------------------------------------------------


def _shared(sets: str) -> Parser:
    """The options that may stand before or after the subcommand. Absent ones leave no attribute, so that neither place
    overwrites the other; `sets` is where --set values go."""
    parser = Parser(add_help=False, argument_default=argparse.SUPPRESS)
    group = parser.add_argument_group("configuration")
    group.add_argument("--conf", metavar="FILE", help=f"configuration file; {DEFAULT_CONF} when not given")
    group.add_argument(
        "--set",
        dest=sets,
        action="append",
        metavar="KEY=VALUE",
        help="override any key, such as train.lr=2e-5; repeatable",
    )
    group.add_argument("--verbose", action="store_true", help="log more, and show the traceback of every error")
    for flag, key in FLAGS.items():
        names = [f"--{flag}", "--max_epochs"] if flag == "max_epoches" else [f"--{flag}"]
        text = f"{KEYS[key].metadata['meaning']} [{key}]".replace("%", "%%")
        if KEYS[key].kind is bool:
            group.add_argument(*names, action="store_const", const="true", help=text)
        else:
            group.add_argument(*names, dest=flag, metavar="X", help=text)
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of images, 1 or more")
    return int(text)


def make_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = Parser(
        prog=PROGRAM,
        description="Stylish image captioning with OFA.",
        parents=[_shared("sets_before")],
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    shared = _shared("sets_after")

    def command(name: str, run: Any) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name, help=run.__doc__.splitlines()[0], description=run.__doc__, parents=[shared], allow_abbrev=False
        )
        sub.set_defaults(run=run)
        return sub

    sub = command("train", train)
    sub.add_argument("--resume", action="store_true", help="continue the run in work_dir where it stopped")
    sub = command("eval", evaluate)
    sub.add_argument("--split", choices=("train", "val", "test"), help="split to score [eval.split]")
    sub.add_argument("--control", metavar="NAME", help="blank-image, wrong-style or constant, to hold scores against")
    sub = command("inference", inference)
    source = sub.add_mutually_exclusive_group(required=True)
    source.add_argument("--image", nargs="+", metavar="FILE", help="images to caption")
    source.add_argument("--json", metavar="FILE", help='[{"image" or "image_hash", "style", "reference"?}, ...]')
    source.add_argument("--random", type=_count, metavar="N", help="N images of a split")
    sub.add_argument("--style", metavar="A,B", help="styles, separated by commas; default: all")
    sub.add_argument("--split", choices=("train", "val", "test"), help="split for --random [eval.split]")
    sub.add_argument("--output", metavar="DIR", help="folder for the JSON and the contact sheets; default work_dir")
    sub = command("doctor", doctor)
    sub.add_argument("--json", action="store_true", help="the report as JSON")
    sub = command("conf", conf)
    sub.add_argument("--schema", action="store_true", help="print every key with its type, default and meaning")
    sub.add_argument("--json", action="store_true", help="the schema as JSON")
    return parser


def _load(args: argparse.Namespace) -> Config:
    flags = {name: getattr(args, name, None) for name in FLAGS}
    if args.run in (evaluate, inference):
        # These name the model to run and the captions decoded together; what was trained, and how, stays as it is.
        flags["eval.batch_size"] = flags.pop("batch_size")
        del flags["checkpoint"]
    sets = getattr(args, "sets_before", []) + getattr(args, "sets_after", [])
    return load_config(getattr(args, "conf", DEFAULT_CONF), sets, flags)


def _set_up_logging(verbose: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    LOGGER.handlers[:] = [handler]
    LOGGER.setLevel(logging.DEBUG if verbose else logging.INFO)
    LOGGER.propagate = False


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit code."""
    args = make_parser().parse_args(argv)
    _set_up_logging(getattr(args, "verbose", False))
    try:
        if args.run is conf and args.schema:
            return print_schema(args)
        return args.run(_load(args), args)
    except KeyboardInterrupt:
        sys.stderr.write(f"{PROGRAM}: interrupted\n")
        return 130
    except (ValueError, OSError) as error:
        LOGGER.debug("", exc_info=True)
        sys.stderr.write(f"{PROGRAM}: error: {' '.join(str(error).split())}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
