"""The command `report`: a page about runs, whose cards are those of their task."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from config import CAPTIONING
from data.files import read_object
from data.run_folder import RunFolder
from report.card import Card
from report.page import write_report
from tasks import TASKS, task_named


def report_runs(folders: Sequence[str], output: str | None, *, captions: int, replicates: int) -> Path:
    """`report.page.write_report` of runs of one task; captions of other systems have no configuration and are captions.

    Raises ValueError for runs of several tasks, or of one that is not known.
    """
    tasks = {_task(RunFolder(folder)) for folder in folders}
    if len(tasks) > 1:
        raise ValueError(
            f"these runs are of several tasks ({', '.join(sorted(tasks))}): report each on a page of its own"
        )
    task = task_named(tasks.pop())

    def describe(row: Mapping[str, Any]) -> Card:
        return task.card(row)

    return write_report(folders, output, describe=describe, captions=captions, replicates=replicates)


def _task(run: RunFolder) -> str:
    name = read_object(run.conf).get("task", CAPTIONING) if run.conf.exists() else CAPTIONING
    if name not in TASKS:
        raise ValueError(f"{run.conf}: task {name!r} is none of {', '.join(TASKS)}")
    return name
