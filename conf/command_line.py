"""The command line's grammar: what every command may be given. `finetune.py` says what the commands do.

A new command is a function marked `@command` in `finetune.py` and, if it takes arguments of its own, a function marked
`@arguments` here. Imports the standard library only.
"""

import argparse
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any

from config import FLAGS, KEYS, RUNS

PROGRAM = "finetune.py"
DEFAULT_CONF = "train_conf.json"
SPLITS = ("train", "val", "test")
_ARGUMENTS: dict[str, Callable[[argparse.ArgumentParser], None]] = {}


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, whichever subcommand they are in."""

    def error(self, message: str) -> typing.NoReturn:
        self.exit(2, f"{PROGRAM}: error: {message} (see {self.prog} --help)\n")


def arguments(name: str) -> Callable[[Callable[[argparse.ArgumentParser], None]], Any]:
    """Marks the function that adds the arguments of command `name`."""

    def mark(add: Callable[[argparse.ArgumentParser], None]) -> Callable[[argparse.ArgumentParser], None]:
        _ARGUMENTS[name] = add
        return add

    return mark


def make_parser(commands: Mapping[str, Callable[..., int]], without_conf: Collection[str]) -> Parser:
    """The whole command line.

    `commands`: name -> function, whose docstring is its help. Those of `without_conf` read no configuration.
    """
    parser = Parser(
        prog=PROGRAM,
        description="Stylish image captioning with OFA.",
        parents=[_shared("sets_before")],
        allow_abbrev=False,
    )
    choices = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    shared, verbose = _shared("sets_after"), Parser(add_help=False, argument_default=argparse.SUPPRESS)
    _add_verbose(verbose)
    for name, run in commands.items():
        text = run.__doc__ or ""
        parents = [verbose if name in without_conf else shared]
        sub = choices.add_parser(name, help=text.splitlines()[0], description=text, parents=parents, allow_abbrev=False)
        _ARGUMENTS.get(name, lambda sub: None)(sub)
    return parser


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
    _add_verbose(group)
    for flag, key in FLAGS.items():
        names = [f"--{flag}", "--max_epochs"] if flag == "max_epoches" else [f"--{flag}"]
        text = f"{KEYS[key].metadata['meaning']} [{key}]".replace("%", "%%")
        if KEYS[key].kind is bool:
            group.add_argument(*names, action="store_const", const="true", help=text)
        else:
            group.add_argument(*names, dest=flag, metavar="X", help=text)
    return parser


def _add_verbose(group: argparse._ActionsContainer) -> None:
    group.add_argument("--verbose", action="store_true", help="log more, and show the traceback of every error")


def count(text: str) -> int:
    """A whole number, 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number, 1 or more")
    return int(text)


# --- arguments of the commands ---------------------------------------------------------------------------------------


@arguments("train")
def _train(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--resume", action="store_true", help="continue the run in work_dir where it stopped")


@arguments("eval")
def _eval(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--split", choices=SPLITS, help="split to score [eval.split]")
    sub.add_argument("--control", metavar="NAME", help="blank-image, wrong-style or constant, to hold scores against")


@arguments("inference")
def _inference(sub: argparse.ArgumentParser) -> None:
    source = sub.add_mutually_exclusive_group(required=True)
    source.add_argument("--image", nargs="+", metavar="FILE", help="images to caption")
    source.add_argument("--json", metavar="FILE", help='[{"image" or "image_hash", "style", "reference"?}, ...]')
    source.add_argument("--random", type=count, metavar="N", help="N images of a split")
    sub.add_argument("--style", metavar="A,B", help="styles, separated by commas; default: all")
    sub.add_argument("--split", choices=SPLITS, help="split for --random [eval.split]")
    sub.add_argument("--output", metavar="DIR", help="folder for the JSON and the contact sheets; default work_dir")


@arguments("doctor")
def _doctor(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--json", action="store_true", help="the report as JSON")


@arguments("conf")
def _conf(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--schema", action="store_true", help="print every key with its type, default and meaning")
    sub.add_argument("--json", action="store_true", help="the schema as JSON")


@arguments("results")
def _results(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("folder", nargs="?", default=RUNS, metavar="DIR", help=f"folder that holds the runs; {RUNS}")
    sub.add_argument("--jq", default=".[]", metavar="PROGRAM", help="jq program over the list of runs; default: .[]")
    sub.add_argument("--csv", action="store_true", help="a table, with a row for each object")
