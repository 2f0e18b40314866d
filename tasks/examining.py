"""The command `doctor`, of any task."""

from typing import Any

from tasks import task_of


def examine_splits(config: Any) -> dict[str, Any]:
    """Split -> the doctor's report on it, for every split that the configuration has."""
    task = task_of(config)
    return {name: task.examine(config, task.read(config, name)) for name in task.splits(config)}
