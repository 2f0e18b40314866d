"""Commands about models themselves, which need no configuration: exported, imported, sent to a hub, converted,
compared.

A command is a function marked `@command`: (arguments) -> exit code; its docstring is its help. `finetune.py` adds them
to its own. Importing this module loads nothing but the standard library: each command imports what it needs.
"""

import argparse
import json
import re
from collections.abc import Callable

from conf.command_line import adapters, arguments, count
from conf.output import results_only, write

COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {}


def command(name: str) -> Callable[[Callable[[argparse.Namespace], int]], Callable[[argparse.Namespace], int]]:
    """Marks a command; `conf.command_line.arguments` marks the function that adds its arguments."""

    def mark(run: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
        COMMANDS[name] = run
        return run

    return mark


@command("export")
def export(args: argparse.Namespace) -> int:
    """Copy the best model of a run with a model card into a folder or a .tar.gz of its own; print its path.

    It holds what inference needs, in the form that ModelScope and transformers read, the run's configuration and
    scores, and a checksum of every file. Nothing is overwritten, and nothing of the run is removed. What train.lora
    trained is added to the weights, or, with --adapter, kept alone. With --app it also holds what Hugging Face Spaces
    and ModelScope Studio start as it is: app.py, requirements.txt and the code.
    """
    with results_only():
        from serving.sharing import export_run

        kept = {"data_license": args.data_license, "adapter": args.adapter, "app": args.app}
        path = export_run(args.run, args.out, **kept)
    write(str(path))
    return 0


@arguments("export")
def _export(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("run", metavar="RUN", help="folder of a run")
    sub.add_argument("--out", required=True, metavar="DIR|FILE.tar.gz", help="what does not exist yet")
    sub.add_argument("--data-license", metavar="TEXT", help="licence of the training data, for the card")
    sub.add_argument("--adapter", action="store_true", help="of a run with train.lora: the adapter without its model")
    sub.add_argument("--app", action="store_true", help="make it an app of Hugging Face Spaces and ModelScope Studio")


@command("import")
def import_(args: argparse.Namespace) -> int:
    """Unpack an exported .tar.gz into a new folder, checked file by file; print its path."""
    with results_only():
        from serving.sharing import import_archive

        path = import_archive(args.archive, args.out)
    write(str(path))
    return 0


@arguments("import")
def _import(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("archive", metavar="FILE.tar.gz", help="what export wrote")
    sub.add_argument("--out", required=True, metavar="DIR", help="a folder that does not exist yet")


@command("push")
def push(args: argparse.Namespace) -> int:
    """Send an exported folder to a hub, with the token that its client knows; write what was sent as JSON.

    --dry-run says what would be sent, and sends nothing.
    """
    with results_only():
        from serving.hubs import push as send

        sent = send(args.folder, args.to, private=not args.public, dry_run=args.dry_run)
    write(json.dumps(sent))
    return 0


@arguments("push")
def _push(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("folder", metavar="DIR", help="what export wrote")
    sub.add_argument("--to", required=True, metavar="HUB:OWNER/NAME", help="hf: (Hugging Face) or ms: (ModelScope)")
    sub.add_argument("--public", action="store_true", help="make a new repository public; private without it")
    sub.add_argument("--dry-run", action="store_true", help="only say what would be sent")


@command("convert")
def convert(args: argparse.Namespace) -> int:
    """Convert a VisualBERT checkpoint, bit for bit: the original's .th, transformers' folder or ours; print the folder.

    Without --to the folder is ours, which transformers reads too.
    """
    with results_only():
        from models.visualbert.conversion import convert as write_converted

        overrides = {} if args.heads is None else {"num_attention_heads": args.heads}
        write_converted(args.source, args.out, to=args.to, **overrides)
    write(str(args.out))
    return 0


@arguments("convert")
def _convert(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("source", metavar="SOURCE", help="a .th file, or a folder of transformers or ours")
    sub.add_argument("--out", required=True, metavar="DIR", help="a folder that does not exist yet")
    sub.add_argument("--to", choices=("stylecap", "original", "transformers"), default="stylecap", help="stylecap")
    _heads(sub)


def _heads(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--heads", type=count, metavar="N", help="attention heads, where no file tells; width / 64")


@command("compare-weights")
def compare_weights(args: argparse.Namespace) -> int:
    """Run two checkpoints of VisualBERT, LXMERT or OFA on the same made batch, and write by how much outputs differ.

    Each line has the largest and the mean difference of an output; the exit code is 1 where one is beyond the
    tolerance. --published holds a release of VisualBERT against the numbers that were printed for it in 2021.
    """
    with results_only():
        from models.comparison import agree, table
        from serving.weights import compare

        rows = compare(args.first, args.second, args.published, args.vocabulary, args.release, args.heads)
    write(table(rows))
    usual = 1e-5 if args.published is None else 1e-4
    return 0 if agree(rows, usual if args.tolerance is None else args.tolerance) else 1


@arguments("compare-weights")
def _compare_weights(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("first", metavar="A", help="a file or folder of weights")
    sub.add_argument("second", nargs="?", metavar="B", help="likewise; left out with --published")
    sub.add_argument("--tolerance", type=float, metavar="X", help="largest difference allowed; 1e-5, of published 1e-4")
    sub.add_argument("--published", metavar="FILE", help="JSON of the numbers printed for the releases")
    sub.add_argument(
        "--release", metavar="NAME", help="whose numbers: default is the name of A, such as visualbert-vqa"
    )
    sub.add_argument("--vocabulary", metavar="FILE", help="with --published: bert-base-uncased's vocab.txt")
    _heads(sub)


@command("serve")
def serve(args: argparse.Namespace) -> int:
    """Serve models on this machine: a page at /, JSON at /v1/captions and /v1/answers, OpenAI's /v1/chat/completions.

    MODEL_DIR is a run, a checkpoint or an exported folder; its name is the model's. Only this machine can ask, unless
    --host says otherwise. Nothing is fetched from elsewhere, and no path or address in a request is opened.
    """
    with results_only():
        from serving.serve import run_server

        run_server(
            args.models,
            host=args.host,
            port=args.port,
            key_file=args.api_key_file,
            device=args.device,
            size=args.together,
            limit=args.queue,
            seconds=args.timeout,
            adapters=dict(args.adapter),
        )
    return 0


@arguments("serve")
def _serve(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("models", nargs="+", metavar="MODEL_DIR", help="folders of models")
    adapters(sub, use=False)
    sub.add_argument("--port", type=count, default=7860, metavar="N", help="7860")
    sub.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="0.0.0.0 lets other machines in; 127.0.0.1")
    sub.add_argument("--api-key-file", metavar="FILE", help="file whose first line clients must send as bearer token")
    sub.add_argument("--device", default="auto", metavar="NAME", help="cpu, cuda, cuda:1; default: the GPU if any")
    sub.add_argument("--together", type=count, default=32, metavar="N", help="captions of one pass; 32")
    sub.add_argument("--queue", type=count, default=256, metavar="N", help="requests that may wait; 256")
    sub.add_argument("--timeout", type=count, default=60, metavar="S", help="seconds that a request may take; 60")


@command("data")
def data(args: argparse.Namespace) -> int:
    """Look at a data set of one's own, and say what is what; with --out write a configuration that trains on it.

    PATH is a table (CSV, TSV, JSONL, JSON, Parquet, a tar in WebDataset's form), a folder with one (metadata.jsonl or
    metadata.csv beside images), or a folder of train, val and test.
    """
    with results_only():
        from tasks.captioning.inspecting import run_inspect

        text = run_inspect(args.path, args.out, args.folder)
    write(text)
    return 0


@arguments("data")
def _data(sub: argparse.ArgumentParser) -> None:
    inspect = sub.add_subparsers(dest="action", metavar="ACTION", required=True).add_parser(
        "inspect", help="say what a table or a folder holds"
    )
    inspect.add_argument("path", metavar="PATH", help="a table, or a folder")
    inspect.add_argument("--out", metavar="FILE.json", help="the configuration; a file that does not exist yet")
    inspect.add_argument("--folder", metavar="DIR", help="of the run; default: work_dir/NAME")


@command("caption")
def caption(args: argparse.Namespace) -> int:
    """Caption pictures with an exported model: a line of JSON each into a file, which a stopped run goes on with.

    SOURCE is a picture, a folder, a zip file, a pattern in quotes, or a .txt with one of these a line. A picture that
    cannot be read is a line with its error. The last line of stdout has the counts.
    """
    with results_only():
        from tasks.captioning.bulk import caption_with

        model = {"device": args.device, "adapters": dict(args.adapter), "use": args.use}
        counts = caption_with(
            args.model, args.sources, args.out, styles=names(args.style), batch_size=args.together, **model
        )
    write(json.dumps(counts))
    return 0


@arguments("caption")
def _caption(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("model", metavar="MODEL_DIR", help="an exported folder or a checkpoint")
    sub.add_argument("sources", nargs="+", metavar="SOURCE", help="pictures; see above")
    sub.add_argument("--out", required=True, metavar="FILE.jsonl", help="where lines are added")
    sub.add_argument("--style", metavar="A,B", help="styles, separated by commas; default: all")
    adapters(sub, use=True)
    sub.add_argument("--device", default="auto", metavar="NAME", help="cpu, cuda, cuda:1; default: the GPU if any")
    sub.add_argument("--together", type=count, default=32, metavar="N", help="captions of one pass; 32")


@command("style")
def style(args: argparse.Namespace) -> int:
    """Teach a trained captioner a new style from a few captioned pictures; what came of it is one line of JSON.

    Only the vector of the new style is learnt: the model writes its other styles as before. The folder is a checkpoint
    that knows the style by its name, for inference, serve, caption and export.
    """
    with results_only():
        from tasks.captioning.adding_style import add_style

        if names(args.name) != [args.name.strip()]:
            raise ValueError(f"style {args.name!r}: a comma separates styles: leave it out, or put it in parentheses")
        learning = {"images": args.images, "description": args.describe, "steps": args.steps, "device": args.device}
        result = add_style(args.name, args.model, args.examples, args.out, **learning)
    write(json.dumps(result, ensure_ascii=False))
    return 0


@arguments("style")
def _style(sub: argparse.ArgumentParser) -> None:
    add = sub.add_subparsers(dest="action", metavar="ACTION", required=True).add_parser("add", help="a new style")
    add.add_argument("name", metavar="NAME", help="of the new style")
    add.add_argument("--model", required=True, metavar="DIR", help="a run, a checkpoint or an exported folder")
    add.add_argument("--examples", required=True, metavar="FILE|DIR", help="its captions: a table, or captions' JSON")
    add.add_argument("--images", metavar="DIR", help="folder of the pictures; default: that of the table")
    add.add_argument("--describe", metavar="WORDS", help="what it starts from; default: the mean of all styles")
    add.add_argument("--steps", type=count, default=100, metavar="N", help="updates; 100")
    add.add_argument("--device", default="auto", metavar="NAME", help="cpu, cuda, cuda:1; default: the GPU if any")
    add.add_argument("--out", required=True, metavar="DIR", help="a folder that does not exist yet")


def names(text: str | None) -> list[str] | None:
    """Names with commas between; a comma inside parentheses belongs to the name."""
    return [name.strip() for name in re.split(r",(?![^()]*\))", text)] if text else None
