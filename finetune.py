"""Stylecap's command line: what each command does; `conf/command_line.py` has the grammar,
and `serving/commands.py` has those about models themselves.

Parses, validates and wires; the work is done elsewhere. Importing this module and answering --help load nothing but the
standard library: each command imports what it needs. Exit codes: 0 done; 1 a bug (with its traceback), or faults that
`doctor` found; 2 a mistake in the command, the configuration or the data, in one line on stderr; 130 interrupted.
Only results go to stdout: the JSON of `eval`, captions, reports and configurations.
"""

import argparse
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import serving.commands
from conf.asked import configuration_of, refuse_configuration, with_eval
from conf.command_line import PROGRAM, make_parser
from conf.output import printable, results_only, write
from config import RUNS, schema, schema_markdown, schema_text

LOGGER = logging.getLogger("stylecap")
_OF_ALL = ("command", "verbose")
_TORCHRUN = (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))

COMMANDS: dict[str, Callable[..., int]] = {}
_WITHOUT_CONF: set[str] = set()


def command(name: str, *, conf: bool = True) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Marks a command: a function (config, arguments) -> exit code, or, without `conf`, (arguments) -> exit code."""

    def mark(run: Callable[..., int]) -> Callable[..., int]:
        COMMANDS[name] = run
        if not conf:
            _WITHOUT_CONF.add(name)
        return run

    return mark


# --- commands --------------------------------------------------------------------------------------------------------


@command("train")
def train(config: Any, args: argparse.Namespace) -> int:
    """Train, and keep the best checkpoint in work_dir."""
    if args.resume and getattr(args, "checkpoint", None):
        raise ValueError("--resume continues the run in work_dir and --checkpoint starts a new one; give one of them")
    with results_only():
        from tasks.training import run_training

        # What torchrun tells a process about itself; nothing else is read from the environment.
        rank, ranks, local = (int(os.environ.get(name, default)) for name, default in _TORCHRUN)
        result = run_training(
            config,
            resume=args.resume,
            allow_changed_data=args.allow_changed_data,
            rank=rank,
            ranks=ranks,
            local_rank=local,
        )
    LOGGER.info("%s", json.dumps(result))
    return 0


@command("eval")
def evaluate(config: Any, args: argparse.Namespace) -> int:
    """Caption a split, or answer its questions; score it, and write the scores to stdout as one line of JSON.

    --checkpoint names the model to score; without it, the best one in work_dir is. --control scores something else in
    its place. Of captions: the model that sees no image (blank-image) or is asked for another style (wrong-style), or
    no model: one caption for all images (constant), or what people wrote of the most similar training images (nearest).
    Of answers: the model that sees no image (question-only) or no words (image-only), or no model (majority: the most
    frequent training answer of each type of question).
    """
    with results_only():
        from tasks.evaluating import run_evaluation

        given = {"bootstrap": args.bootstrap, "tokenizer": args.tokenizer, "strict": args.strict or None}
        config = with_eval(config, {name: value for name, value in given.items() if value is not None})
        checkpoint, split = getattr(args, "checkpoint", None), args.split or config.eval.split
        scores = run_evaluation(config, checkpoint, split, args.control)
    write(json.dumps(scores))
    return 0


@command("inference")
def inference(config: Any, args: argparse.Namespace) -> int:
    """Caption images in the asked styles, or answer questions about them: `image<TAB>style or question<TAB>text`.

    --checkpoint names the model to use; without it, the best one in work_dir is. Without --style, images are captioned
    in every style that the model knows, and those of a split in the styles that it has for them. With --out there may
    be any number of images: each is a line of JSON in that file, and the same command again goes on where it stopped.
    """
    # A comma inside parentheses belongs to the name: "Articulate (Well-spoken, Expressive)".
    styles = [style.strip() for style in re.split(r",(?![^()]*\))", args.style)] if args.style else None
    config = with_eval(config, {"strict": True} if args.strict else {})
    asked = {"styles": styles, "questions": args.question}
    adapted = {"adapters": dict(args.adapter), "use": args.use} if args.adapter or args.use else {}
    if args.out is not None:
        return _inference_of_many(config, args, styles, adapted)
    with results_only():
        from tasks import inference_of

        run, word = inference_of(config)
        if adapted and word != "styles":
            raise ValueError(f"--adapter does not go with the task {config.task}: leave it out")
        for other, value in asked.items():
            if other != word and value is not None:
                raise ValueError(f"--{other[:-1]} does not go with the task {config.task}: leave it out")
        rows = run(
            config,
            checkpoint=getattr(args, "checkpoint", None),
            images=args.image,
            json_file=args.json,
            random_n=args.random,
            split=args.split or config.eval.split,
            output=args.output,
            **adapted,
            **{word: asked[word]},
        )
    for row in rows:
        write("\t".join((row["image"], row.get("style") or row["question"], row.get("caption") or row["answer"])))
    return 0


def _inference_of_many(
    config: Any, args: argparse.Namespace, styles: Sequence[str] | None, adapted: dict[str, Any]
) -> int:
    for name in ("json", "random", "question", "output"):
        if getattr(args, name) is not None:
            raise ValueError(f"--out goes with --image, not with --{name}: leave one of them out")
    with results_only():
        from tasks import bulk_of

        run, checkpoint = bulk_of(config), getattr(args, "checkpoint", None)
        counts = run(config, sources=args.image, out=args.out, styles=styles, checkpoint=checkpoint, **adapted)
    write(json.dumps(counts))
    return 0


@command("predict")
def predict(config: Any, args: argparse.Namespace) -> int:
    """Answer every question of a split, and write the file that the official server takes; print its path.

    VQA: JSON of question_id and answer; GQA: JSON of questionId and prediction; NLVR2: CSV; CLEVR: one answer a line.
    Nothing is written where a question has no features or no answer.
    """
    with results_only():
        from tasks import prediction_of

        split, checkpoint = args.split or config.eval.split, getattr(args, "checkpoint", None)
        path = prediction_of(config)(config, split=split, checkpoint=checkpoint, kind=args.kind, output=args.output)
    write(str(path))
    return 0


@command("doctor")
def doctor(config: Any, args: argparse.Namespace) -> int:
    """Look for faults in the data set; exit code 1 when there are any."""
    with results_only():
        from tasks.examining import examine_splits

        reports = examine_splits(config)
    if args.json:
        write(json.dumps({name: report.to_json() for name, report in reports.items()}))
    else:
        write("\n\n".join(report.to_text() for report in reports.values()))
    return 1 if any(report.faults for report in reports.values()) else 0


@command("conf")
def conf(config: Any, args: argparse.Namespace) -> int:
    """Print the configuration that the file and the overrides amount to."""
    if args.jq:
        from evaluation.json_query import query
        from evaluation.results import to_lines

        write(to_lines(query(args.jq, config.to_dict())))
    else:
        write(json.dumps(config.to_dict(), indent=2))
    return 0


@command("sweep")
def sweep(config: Any, args: argparse.Namespace) -> int:
    """Train and evaluate many runs over the configuration; finished ones are not repeated, interrupted ones continue.

    The runs, results.jsonl, leaderboard.csv and best.json are in work_dir/sweeps/NAME. A run that fails is recorded and
    stops no other. The last line of stdout is a summary as JSON; the exit code is 1 when every run failed.
    """
    with results_only():
        from sweeps.runner import run_sweep
        from sweeps.search import read_sweep

        what, runs = read_sweep(args.sweep), Path(RUNS)
        if args.ray:
            from sweeps.on_ray import run_on_ray

            gpus = 0 if args.gpus == "cpu" else 1
            summary = run_on_ray(what, config, runs=runs, environment=os.environ, address=args.ray, gpus_each=gpus)
        else:
            devices = ["cpu"] if args.gpus == "cpu" else args.gpus.split(",")
            summary = run_sweep(what, config, devices, runs=runs, environment=os.environ)
    write(json.dumps(summary))
    return 0 if summary["best"] else 1


def print_schema(args: argparse.Namespace) -> int:
    """Print every key of a task with its type, default and meaning; needs no configuration file."""
    if args.markdown:
        write(schema_markdown())
    else:
        write(json.dumps(schema(args.task), indent=2) if args.json else schema_text(args.task))
    return 0


def _prepare_for_torch() -> None:
    """What libraries read from the environment when torch is first imported; what the user has set is kept.

    Huge pages for large tensors of a CPU: 7% of an update's time on two cores. OpenMP's threads spin for a short while
    before they sleep: alone as fast as spinning on, and half the time where other processes want the cores.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


@command("results", conf=False)
def results(args: argparse.Namespace) -> int:
    """Write the results of all evaluated runs to stdout, one line of JSON each, or what a jq program makes of them.

    The program gets a list of objects: what a run's metrics.json holds, "run" (its folder) and "conf". Strings are
    written without quotes.
    """
    from evaluation.json_query import query
    from evaluation.results import read_results, to_csv, to_lines

    found = query(args.jq, read_results(args.folder))
    if found:
        write(to_csv(found) if args.csv else to_lines(found))
    return 0


@command("compare", conf=False)
def compare(args: argparse.Namespace) -> int:
    """Compare two evaluated runs: each metric with its 95% interval, and that of the difference, second minus first.

    With --against, the mean of several runs less that of several others. The intervals are a paired bootstrap over
    images, and over the runs of a side. All runs must have been evaluated on the same split.
    """
    from evaluation.comparison import compare_runs, to_json, to_text

    found = compare_runs(args.runs, args.against, args.bootstrap)
    write(json.dumps(to_json(found)) if args.json else to_text(found))
    return 0


@command("score", conf=False)
def score(args: argparse.Namespace) -> int:
    """Score any system's captions or answers, and write the scores to stdout as one line of JSON.

    Captions are in COCO's results form; references are Personality-Captions, COCO or Karpathy JSON. With --train, what
    depends on training captions is there too: style, fluency, copies. With --output, `compare` and `report` take the
    folder as a run. Answers (--kind vqa, gqa, nlvr2, nlvr1, clevr, vcr) are in the official form of their data set;
    references are its annotations (vqa) or questions.
    """
    with results_only():
        if args.kind != "captions":
            from evaluation.answer_scoring import score_submission

            scores = score_submission(args.kind, args.references, args.predictions, choices=args.choices)
        else:
            scores = _score_captions(args)
    write(json.dumps(scores))
    return 0


def _score_captions(args: argparse.Namespace) -> dict[str, Any]:
    from evaluation.scoring import run_scoring

    if args.choices is not None:
        raise ValueError("--choices belongs to --kind gqa: leave it out")
    return run_scoring(
        args.references,
        args.predictions,
        split=args.split,
        train=args.train,
        image_dir=args.image_dir,
        output=args.output,
        java=not args.no_java,
        java_timeout_s=args.java_timeout,
        bootstrap=args.bootstrap,
        tokenizer=args.tokenizer,
    )


@command("features", conf=False)
def features(args: argparse.Namespace) -> int:
    """Make, join, cut and check stores of region and grid features; what a store holds is one line of JSON.

    import reads LXMERT's TSV files, VisualBERT's .th files and folders of .npy or .npz; extract makes grids of one's
    own pictures. Nothing is overwritten, and nothing is left of a store that could not be finished. The exit code of
    check is 1 for faults.
    """
    with results_only():
        from tasks.answering.features import run_features

        result = run_features(**{name: value for name, value in vars(args).items() if name not in _OF_ALL})
    write(json.dumps(result))
    return 1 if result.get("faults") else 0


@command("report", conf=False)
def report(args: argparse.Namespace) -> int:
    """Write one HTML page about evaluated runs, which needs nothing beside itself; print its path."""
    with results_only():
        from tasks.reporting import report_runs

        path = report_runs(args.runs, args.output, captions=args.captions, replicates=args.bootstrap)
    write(str(path))
    return 0


COMMANDS |= serving.commands.COMMANDS
_WITHOUT_CONF |= set(serving.commands.COMMANDS)


# --- running them -----------------------------------------------------------------------------------------------------


def _set_up_logging(verbose: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    LOGGER.handlers[:] = [handler]
    LOGGER.setLevel(logging.DEBUG if verbose else logging.INFO)
    LOGGER.propagate = False


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit code."""
    args = make_parser(COMMANDS, _WITHOUT_CONF).parse_args(argv)
    _set_up_logging(getattr(args, "verbose", False))
    _prepare_for_torch()
    try:
        if args.command == "conf" and args.schema:
            return print_schema(args)
        run = COMMANDS[args.command]
        if args.command in _WITHOUT_CONF:
            refuse_configuration(args)
            return run(args)
        return run(configuration_of(args), args)
    except KeyboardInterrupt:
        sys.stderr.write(f"{PROGRAM}: interrupted\n")
        return 130
    except (ValueError, OSError) as error:
        LOGGER.debug("", exc_info=True)
        sys.stderr.write(f"{PROGRAM}: error: {printable(' '.join(str(error).split()))}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
