"""The command line's grammar: what every command may be given. `finetune.py` says what the commands do.

A new command is a function marked `@command` in `finetune.py`, or in `serving/commands.py` where it is about a model
itself, and, if it takes arguments of its own, a function marked `@arguments`. Imports the standard library only.
"""

import argparse
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any

from config import CAPTIONING, FLAGS, KEYS, RUNS

PROGRAM = "finetune.py"
DEFAULT_CONF = "train_conf.json"
SPLITS = ("train", "val", "test")
TOKENIZERS = typing.get_args(KEYS["eval.tokenizer"].kind)
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
        description="Stylish image captioning with OFA; answers to questions about images.",
        parents=[_shared("sets_before")],
        allow_abbrev=False,
    )
    choices = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    shared, verbose = _shared("sets_after"), Parser(add_help=False, argument_default=argparse.SUPPRESS)
    _add_verbose(verbose)
    for name, run in commands.items():
        text = (run.__doc__ or "").replace("%", "%%")
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


def natural(text: str) -> int:
    """A whole number, 0 or more."""
    return 0 if text == "0" else count(text)


def gpus(text: str) -> str:
    """`cpu`, or numbers with commas between."""
    if text != "cpu" and not all(part.isdecimal() for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text} is neither cpu nor a list such as 0,2,3")
    return text


def adapters(sub: argparse.ArgumentParser, *, use: bool) -> None:
    """Adapters beside a model; with `use` also which of them the styles are of."""
    text = "an adapter of the model (train.lora), whose styles are NAME/STYLE; repeatable"
    sub.add_argument("--adapter", type=_named_folder, action="append", default=[], metavar="NAME=DIR", help=text)
    if use:
        sub.add_argument("--use", metavar="NAME", help="the adapter that styles are of, in place of NAME/STYLE")


def _named_folder(text: str) -> tuple[str, str]:
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise argparse.ArgumentTypeError(f"{text} is not NAME=DIR")
    return name, folder


# --- arguments of the commands ---------------------------------------------------------------------------------------


@arguments("train")
def _train(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--resume", action="store_true", help="continue the run in work_dir where it stopped")
    sub.add_argument(
        "--allow-changed-data", action="store_true", help="with --resume: although the training data have changed"
    )


@arguments("eval")
def _eval(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--split", choices=SPLITS, help="split to score [eval.split]")
    sub.add_argument("--control", metavar="NAME", help="what to hold scores against; see above")
    sub.add_argument("--bootstrap", type=natural, metavar="N", help="draws behind the intervals [eval.bootstrap]")
    sub.add_argument("--tokenizer", choices=TOKENIZERS, help="what scores count [eval.tokenizer]")
    _strict(sub)


def _strict(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--strict", action="store_true", help="a picture that cannot be read is an error [eval.strict]")


@arguments("inference")
def _inference(sub: argparse.ArgumentParser) -> None:
    source = sub.add_mutually_exclusive_group(required=True)
    source.add_argument("--image", nargs="+", metavar="FILE", help="images to caption, or to ask about")
    sub.add_argument(
        "--out",
        metavar="FILE.jsonl",
        help="a line for each image, added; --image may then be folders, zip files, patterns in quotes, and lists .txt",
    )
    source.add_argument(
        "--json",
        metavar="FILE",
        help='[{"image" or "image_hash", "style", "reference"?}, ...] or {"image", "question"}',
    )
    source.add_argument("--random", type=count, metavar="N", help="N images, or questions, of a split")
    sub.add_argument("--style", metavar="A,B", help="styles, separated by commas; default: all")
    sub.add_argument("--question", nargs="+", metavar="TEXT", help="what to ask about each image")
    sub.add_argument(
        "--guidance", metavar="X", help='away from other styles: a number or {"style": number} [eval.style_guidance]'
    )
    adapters(sub, use=True)
    sub.add_argument("--split", choices=SPLITS, help="split for --random [eval.split]")
    sub.add_argument("--output", metavar="DIR", help="folder for the JSON and the contact sheets; default work_dir")
    _strict(sub)


@arguments("predict")
def _predict(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--split", choices=SPLITS, help="split to answer [eval.split]")
    kinds = ("vqa", "gqa", "nlvr2", "clevr", "vcr")
    sub.add_argument("--kind", choices=kinds, help="form of the file; that of data.format")
    sub.add_argument("--output", metavar="FILE", help="default: SPLIT_predict in work_dir")


@arguments("features")
def _features(sub: argparse.ArgumentParser) -> None:
    actions = sub.add_subparsers(dest="action", metavar="ACTION", required=True)
    add = actions.add_parser("import", help="TSV or .th files, or folders of arrays, into a store")
    add.add_argument("sources", nargs="+", metavar="FILE.tsv|FILE.th|DIR")
    add.add_argument("--grid", metavar="RxC", help="the arrays of a folder are grids, such as 7x7")
    add.add_argument("--naming", default="{stem}", metavar="FORM", help='ids of a folder, such as "CLEVR_{number:06d}"')
    add.add_argument("--detector", default="", metavar="TEXT", help="what made the features, for the record")
    extract = actions.add_parser("extract", help="grid features of pictures, by a frozen network; resumable")
    extract.add_argument("--grid", type=count, default=7, metavar="N", help="cells along each side; 7")
    objects = actions.add_parser("vcr", help="regions of VCR's pictures: the whole and every object, cut out")
    objects.add_argument("files", nargs="+", metavar="FILE.jsonl")
    for one in (extract, objects):
        one.add_argument("--images", nargs="+", required=True, metavar="DIR|ZIP")
        one.add_argument(
            "--tower", default="lite0", metavar="NAME", help="lite0, resnet:FILE (torchvision's weights), or pixels"
        )
        one.add_argument("--side", type=count, default=224, metavar="PIXELS", help="of the square looked at; 224")
        one.add_argument("--batch", type=count, default=32, metavar="N", help="pictures at a time; 32")
    boxes = actions.add_parser("nlvr1", help="regions of NLVR's drawings, from the boxes that its files describe")
    boxes.add_argument("files", nargs="+", metavar="FILE.json")
    merge = actions.add_parser("merge", help="several stores as one")
    merge.add_argument("stores", nargs="+", metavar="STORE")
    subset = actions.add_parser("subset", help="some pictures of a store")
    subset.add_argument("store", metavar="STORE")
    subset.add_argument("--ids", required=True, metavar="FILE", help="ids, one a line")
    check = actions.add_parser("check", help="look for damage; reads all of it")
    check.add_argument("store", metavar="STORE")
    for one in (add, extract, boxes, objects, merge, subset):
        one.add_argument("--out", required=True, metavar="STORE", help="a folder that does not exist yet")
    for one in (add, extract, objects):
        one.add_argument("--dtype", choices=("float16", "float32"), default="float16", help="of the numbers; float16")


@arguments("doctor")
def _doctor(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--json", action="store_true", help="the report as JSON")


@arguments("conf")
def _conf(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--schema", action="store_true", help="print every key with its type, default and meaning")
    sub.add_argument("--task", default=CAPTIONING, metavar="NAME", help=f"whose keys the schema has [{CAPTIONING}]")
    sub.add_argument("--json", action="store_true", help="the schema as JSON")
    sub.add_argument("--markdown", action="store_true", help="the schema of all tasks as a page")
    sub.add_argument("--jq", metavar="PROGRAM", help="print what a jq program makes of the configuration")


@arguments("sweep")
def _sweep(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--sweep", required=True, metavar="FILE", help="JSON or CSV: what varies; see conf/sweeps")
    sub.add_argument("--gpus", type=gpus, default="cpu", metavar="LIST", help="0,2,3: a run on each at a time; or cpu")
    sub.add_argument(
        "--ray", metavar="ADDRESS", help="on a Ray cluster (or local); a GPU for each run unless --gpus cpu"
    )


@arguments("results")
def _results(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("folder", nargs="?", default=RUNS, metavar="DIR", help=f"folder that holds the runs; {RUNS}")
    sub.add_argument("--jq", default=".[]", metavar="PROGRAM", help="jq program over the list of runs; default: .[]")
    sub.add_argument("--csv", action="store_true", help="a table, with a row for each object")


@arguments("compare")
def _compare(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "runs", nargs="+", metavar="RUN", help="folders of two evaluated runs, or of several with --against"
    )
    sub.add_argument("--against", nargs="+", metavar="RUN", help="the other side: runs of other settings, a seed each")
    sub.add_argument("--bootstrap", type=count, default=1000, metavar="N", help="draws of images; 1000")
    sub.add_argument("--json", action="store_true", help="the comparison as JSON")


@arguments("score")
def _score(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--kind",
        choices=("captions", "vqa", "gqa", "nlvr2", "nlvr1", "clevr", "vcr"),
        default="captions",
        help="captions",
    )
    sub.add_argument(
        "--references",
        required=True,
        metavar="FILE",
        help='Personality-Captions, COCO or Karpathy JSON, [{"image_id", "caption"}, ...] or {id: [captions]}; '
        "of answers: annotations or questions",
    )
    sub.add_argument(
        "--predictions",
        required=True,
        metavar="FILE",
        help='[{"image_id", "caption", "style"?}, ...], or a line each; official answers',
    )
    sub.add_argument("--tokenizer", choices=TOKENIZERS, default="ptb", help="characters: for text without spaces")
    sub.add_argument("--choices", metavar="FILE", help="gqa: its choices, for validity and plausibility")
    sub.add_argument("--split", default="test", choices=SPLITS, help="split of a Karpathy file; test")
    sub.add_argument("--train", metavar="FILE", help="training captions, for what is measured by them")
    sub.add_argument("--image_dir", default=".", metavar="DIR", help="folder of the images, for reports")
    sub.add_argument("--output", metavar="DIR", help="folder for metrics.json and predictions.json")
    sub.add_argument("--no-java", action="store_true", help="neither METEOR nor SPICE")
    sub.add_argument("--java-timeout", type=count, default=600, metavar="S", help="seconds that Java may take; 600")
    sub.add_argument("--bootstrap", type=natural, default=1000, metavar="N", help="draws behind the intervals; 1000")


@arguments("report")
def _report(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("runs", nargs="+", metavar="RUN", help="folders of evaluated runs; the first is compared with")
    sub.add_argument("--output", metavar="FILE", help="the page; default: report.html in the first run's folder")
    sub.add_argument(
        "--captions", type=count, default=6, metavar="N", help="best, worst and random images shown; 6 each"
    )
    sub.add_argument("--bootstrap", type=count, default=1000, metavar="N", help="draws behind the intervals; 1000")
