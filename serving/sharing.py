"""A run's model as a folder or an archive of its own, and back. Nothing is overwritten or left half done."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path

from data.files import read_object
from data.run_folder import RunFolder
from models.ofa.adapters import (
    ADAPTER_CONFIG,
    ADAPTER_FILE,
    base_of,
    is_adapter,
    read_adapter_config,
    rename_base,
)
from models.ofa.checkpoints import load_model
from models.ofa.saving import SAFETENSORS_FILE, write_weights
from models.ofa.styles import STYLE_MAP_FILE, StyleMap
from serving.answerer_card import answerer_card
from serving.archives import pack, unpack
from serving.model_card import model_card
from serving.space import add_app
from tasks.answering.models import SETTINGS_FILE
from tasks.evaluating import find_checkpoint
from trainers.checkpointing import STATE_FILE

CHECKSUMS = "checksums.json"
CARD = "README.md"
ARCHIVES = (".tar.gz", ".tgz")
_CHUNK = 2**20


def export_run(
    run: str,
    out: str,
    *,
    checkpoint: str | None = None,
    data_license: str | None = None,
    adapter: bool = False,
    app: bool = False,
) -> Path:
    """Copy what inference needs of a run's best checkpoint, with a model card and what is known of the run.

    An adapter (`train.lora`) is added to the weights of its model, unless it is to be kept alone.

    Args:
        run: the run's folder; or a checkpoint that is no run's, such as `style add` writes.
        out: a folder or an archive (.tar.gz) that does not exist yet.
        checkpoint: another one than the run's best.
        data_license: of the training data, for the card.
        adapter: keep the adapter alone; it names the model that the run started from.
        app: add what makes the folder an app of Hugging Face Spaces and ModelScope Studio.

    Returns:
        `out`. It is there only when every file in it has been read back and has its checksum.

    Raises:
        ValueError: no checkpoint, one that is not this project's, something at `out` already, or an app as an archive.
        OSError: it could not be written; nothing is left of it.
    """
    target = Path(out)
    if target.exists():
        raise ValueError(f"{target} exists already: name another place, or remove it yourself")
    if app and target.name.endswith(ARCHIVES):
        raise ValueError(f"{target}: an app is a folder: name one with --out")
    if app and adapter:
        raise ValueError("an app needs the whole model: leave out --adapter, or --app")
    alone = checkpoint is None and _is_model(Path(run))
    source = Path(run) if alone else find_checkpoint(run, checkpoint)
    if not _is_model(source):
        raise ValueError(
            f"{source} has no {STYLE_MAP_FILE} (nor {SETTINGS_FILE}): only checkpoints of this project's runs can be "
            "exported"
        )
    if adapter and not is_adapter(source):
        raise ValueError(f"{source} holds no adapter: train with train.lora, or leave --adapter out")
    with _unfinished(target) as folder:
        files = RunFolder(run)
        _copy_model(source, folder, files, adapter=adapter)
        judges = (files.style_evaluator, files.sentence_evaluator)
        for file in (files.conf, files.metrics, files.document_frequency, *judges):
            if file.exists():
                shutil.copyfile(file, folder / file.name)
        name = Path(run).resolve().name
        card = _card(name, Path(run), folder, data_license)
        (folder / CARD).write_text(add_app(folder, name, card) if app else card, encoding="utf-8")
        _write_checksums(folder)
        verify(folder)
        if target.name.endswith(ARCHIVES):
            archive = folder.parent / target.name
            pack(folder, archive, target.name.removesuffix(".tgz").removesuffix(".tar.gz"))
            with tempfile.TemporaryDirectory(dir=folder.parent) as again:
                verify(unpack(archive, Path(again)))
            os.replace(archive, target)
        else:
            os.replace(folder, target)
    return target


def _is_model(folder: Path) -> bool:
    return any((folder / name).exists() for name in (STYLE_MAP_FILE, SETTINGS_FILE))


def _copy_model(source: Path, folder: Path, files: RunFolder, *, adapter: bool) -> None:
    """A checkpoint's model; an adapter is added to the weights, or kept alone."""
    merged = is_adapter(source) and not adapter
    left = {STATE_FILE, CHECKSUMS, *((ADAPTER_FILE, ADAPTER_CONFIG) if merged else ())}
    for file in sorted(source.iterdir()):
        if file.is_file() and file.name not in left:
            shutil.copyfile(file, folder / file.name)
    if merged:
        model = load_model(source)
        write_weights(folder, model, model.state_dict(), ("safetensors",))
    elif adapter:
        rename_base(folder, _start_of(files) or str(base_of(source).resolve()))


def import_archive(archive: str, out: str) -> Path:
    """Unpack an exported archive into the folder `out`, which must not exist yet.

    Nothing in it is trusted: what `serving.archives` refuses is refused, every file must have the checksum that the
    archive gives, and there must be weights. Raises ValueError for an archive that is not so, or damaged.
    """
    target = Path(out)
    if target.exists():
        raise ValueError(f"{target} exists already: name another place, or remove it yourself")
    with _unfinished(target) as folder:
        try:
            found = unpack(Path(archive), folder)
        except OSError as error:
            raise ValueError(f"{archive} cannot be unpacked ({error}): get it again") from error
        try:
            verify(found)
        except ValueError as error:
            raise ValueError(f"{archive}: refused: {str(error).removeprefix(f'{found} ')}") from error
        if not (found / SAFETENSORS_FILE).is_file() and not is_adapter(found):
            raise ValueError(f"{archive}: refused: it has no {SAFETENSORS_FILE}, so it is no exported model")
        os.replace(found, target)
    return target


def verify(folder: Path) -> None:
    """Compare every file with the folder's checksums. ValueError, naming the file, for one that differs or lacks."""
    if not (folder / CHECKSUMS).is_file():
        raise ValueError(f"{folder} has no {CHECKSUMS}: it was not exported by this project")
    sums = read_object(folder / CHECKSUMS)
    if not all(isinstance(expected, str) for expected in sums.values()):
        raise ValueError(f"{folder / CHECKSUMS} holds other things than checksums: get it again")
    files = set(files_of(folder)) - {CHECKSUMS}
    for name in sorted(files ^ sums.keys()):
        raise ValueError(f"{name} is {'not listed in' if name in files else 'missing, but listed in'} {CHECKSUMS}")
    for name, expected in sums.items():
        if _checksum(folder / name) != expected:
            raise ValueError(f"{name} is not what it was when it was exported: its checksum differs; get it again")


@contextmanager
def _unfinished(target: Path) -> Iterator[Path]:
    """A folder beside `target` to work in; what is left of it at the end is removed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
        folder = Path(scratch) / "model"
        folder.mkdir()
        yield folder


def _card(name: str, run: Path, folder: Path, data_license: str | None) -> str:
    from safetensors import safe_open

    files = RunFolder(run)
    conf = read_object(files.conf) if files.conf.exists() else None
    metrics = read_object(files.metrics) if files.metrics.exists() else None
    alone = is_adapter(folder)
    with safe_open(folder / (ADAPTER_FILE if alone else SAFETENSORS_FILE), framework="np") as file:
        parameters = sum(prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118  not a dict
    if (folder / SETTINGS_FILE).exists():
        return answerer_card(
            name,
            conf=conf,
            metrics=metrics,
            settings=read_object(folder / SETTINGS_FILE),
            parameters=parameters,
            data_license=data_license,
        )
    return model_card(
        name,
        command=f"python finetune.py --conf {files.conf.name} train",
        conf=conf,
        metrics=metrics,
        styles=StyleMap.from_json(folder / STYLE_MAP_FILE).tokens,
        parameters=parameters,
        data_license=data_license,
        links=_links(files),
        adapter_of=read_adapter_config(folder)["base_model_name_or_path"] if alone else None,
    )


def _start_of(files: RunFolder) -> str | None:
    """What a run says that it started from: a folder, by its whole path, or a hub id; None for nothing."""
    start = (read_object(files.conf).get("model") or {}).get("checkpoint") if files.conf.exists() else None
    return str(Path(start).resolve()) if start and Path(start).exists() else start


def _links(files: RunFolder) -> dict[str, str]:
    """Where trackers show the run, for those that do."""
    known = read_object(files.trackers) if files.trackers.exists() else {}
    urls = {name: one.get("url") for name, one in known.items() if isinstance(one, dict)}
    return {name: url for name, url in urls.items() if isinstance(url, str)}


def files_of(folder: Path) -> list[str]:
    """What a folder holds, but for what Python leaves beside code that ran there."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in found if "__pycache__" not in path.parts)


def _checksum(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _write_checksums(folder: Path) -> None:
    sums = {name: _checksum(folder / name) for name in files_of(folder)}
    (folder / CHECKSUMS).write_text(json.dumps(sums, indent=1) + "\n", encoding="utf-8")
