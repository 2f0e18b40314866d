"""One package a task: what goes together of data, networks, objectives, scores and pages."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.base import Task

TASKS = {"stylish-image-captioning": "tasks.captioning.task:TASK"}
"""`task` of a configuration -> where it is, as "module:name"; imported when it is asked for."""


def task_of(config: Any) -> "Task":
    """The task of a configuration."""
    return task_named(config.task)


def task_named(name: str) -> "Task":
    """The task of that name, one of `TASKS`."""
    module, _, name = TASKS[name].partition(":")
    task: Task = getattr(import_module(module), name)
    return task
