"""The command `eval`, of any task: predict, judge, write down."""

import json
import logging
import time
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from data.files import digest_of, read_object, write_json
from data.run_folder import RunFolder
from models.sources import resolve_source
from tasks import task_of
from tasks.base import KeepsPredictions, Task
from trainers.checkpointing import STATE_FILE, CheckpointFolder
from trainers.distributed import World

LOGGER = logging.getLogger("stylecap")


def run_evaluation(
    config: Any, checkpoint: str | None = None, split: str | None = None, control: str | None = None
) -> dict[str, Any]:
    """Predict and score a split as `config` says, and write predictions and metrics into the run's folder.

    Args:
        checkpoint: directory, file or hub id; None is the run's best checkpoint, else its last.
        split: its name; None is `eval.split`.
        control: one of the task's controls, measured in place of the model as it is.

    Returns:
        What `metrics.json` holds: the task's scores, and `split`, `control`, `checkpoint`, `seconds`. Files of another
        split than `eval.split`, or of a control, have its name in theirs.

    Raises:
        ValueError: no checkpoint, an unknown control, a split that is empty or not configured, a broken record.
    """
    started = time.monotonic()
    task, run = task_of(config), RunFolder(config.work_dir)
    name = split or config.eval.split
    _check_control(task, control)
    records = task.read(config, name)
    if config.data.skip_bad:
        records = task.check(config, records, World())
    source = find_checkpoint(config.work_dir, checkpoint) if task.needs_model(control) else None
    predictions = _predictions(task, config, records, name, source, control)
    title = f"{name}, {f'control {control}, ' if control else ''}{source or 'no model'}"
    judgement = task.judge(config, records, predictions, title)
    of_all = {key: value for key, value in judgement.metrics.items() if not isinstance(value, dict)}
    report = {
        **of_all,
        "split": name,
        "control": control,
        "checkpoint": str(source) if source else None,
        "seconds": round(time.monotonic() - started, 1),
        **judgement.metrics,
    }
    names = (name if name != config.eval.split else None, control)
    write_json(run.predictions_of(*names), judgement.predictions)
    write_json(run.metrics_of(*names), report)
    return report


def _predictions(task: Task, config: Any, records: Any, split: str, source: Path | None, control: str | None) -> Any:
    """What the model predicts: as a former call left it, or anew, and then written down before anything else."""
    if not isinstance(task, KeepsPredictions):
        return _predicted(task, config, records, source, control)
    file = RunFolder(config.work_dir).kept_predictions_of(split, control)
    key = {
        "checkpoint": digest_of(source, without=(STATE_FILE,)) if source is not None else None,
        "records": task.identity(records),
        "split": split,
        "control": control,
        "settings": task.predicted_by(config, control),
    }
    key = json.loads(json.dumps(key))
    if file.exists():
        try:
            content = read_object(file)
            if content["key"] == key:
                predictions = task.unpack(content["predictions"])
                LOGGER.info("%s holds these predictions already: they are scored; remove it to predict anew", file)
                return predictions
        except (ValueError, KeyError, TypeError) as error:
            LOGGER.warning("%s is of no use (%s): predicting anew", file, error)
    predictions = _predicted(task, config, records, source, control)
    write_json(file, {"key": key, "predictions": task.pack(predictions)})
    return predictions


def _predicted(task: Task, config: Any, records: Any, source: Path | None, control: str | None) -> Any:
    built = task.open(config, source, records) if source is not None else None
    return task.predict(config, built, records, control)


def find_checkpoint(work_dir: str, checkpoint: str | None) -> Path:
    """The weights to use: `checkpoint` (directory, file, hub id, the folder of a run, which means its best, or
    RUN/checkpoints/epoch-N), else the run's best, else its last.

    Raises ValueError where there are none.
    """
    if checkpoint is not None and not RunFolder(checkpoint).checkpoints.is_dir():
        given = Path(checkpoint)
        by_epoch = CheckpointFolder(given.parent, 1).find(given.name) if given.name.startswith("epoch-") else None
        return by_epoch or resolve_source(checkpoint)
    folder = CheckpointFolder(RunFolder(checkpoint or work_dir).checkpoints, 1)
    found = folder.find("best") or folder.find("last")
    if found is None:
        raise ValueError(
            f"{folder.root} holds no checkpoint: train first, name the run's folder with --work_dir, or a model with "
            "--checkpoint"
        )
    return found


def _check_control(task: Task, name: str | None) -> None:
    if name is not None and name not in task.controls:
        near = get_close_matches(name, task.controls, n=1)
        hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(task.controls)}"
        raise ValueError(f"unknown control {name!r}: {hint}")
