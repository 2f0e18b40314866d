"""One package a task: what goes together of data, networks, objectives, scores and pages."""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.base import Task

TASKS = {
    "stylish-image-captioning": "tasks.captioning.task:TASK",
    "visual-question-answering": "tasks.answering.task:TASK",
    "vision-language-pretraining": "tasks.pretraining.task:TASK",
}
"""`task` of a configuration -> where it is, as "module:name"; imported when it is asked for."""
INFERENCE = {
    "stylish-image-captioning": ("tasks.captioning.inference", "styles"),
    "visual-question-answering": ("tasks.answering.inference", "questions"),
}
"""Task -> where its `run_inference` is, and the argument that says what is asked of an image."""
BULK = {"stylish-image-captioning": "tasks.captioning.bulk"}
"""Task -> where its `run_bulk` is, for tasks that write about any number of pictures into a file of lines."""
PREDICTION = {"visual-question-answering": "tasks.answering.submitting"}
"""Task -> where its `run_prediction` is, for tasks whose data sets have a server that scores."""


def inference_of(config: Any) -> tuple[Callable[..., list[dict[str, Any]]], str]:
    """The function that predicts on demand for a configuration's task, and its argument's name. ValueError for none."""
    if config.task not in INFERENCE:
        raise ValueError(f"the task {config.task} has no inference; there is one of {', '.join(INFERENCE)}")
    module, name = INFERENCE[config.task]
    return import_module(module).run_inference, name


def bulk_of(config: Any) -> Callable[..., dict[str, int]]:
    """The function that writes lines about many pictures for a configuration's task. ValueError for none."""
    if config.task not in BULK:
        raise ValueError(f"--out does not go with the task {config.task}: leave it out; it is for {', '.join(BULK)}")
    run: Callable[..., dict[str, int]] = import_module(BULK[config.task]).run_bulk
    return run


def prediction_of(config: Any) -> Callable[..., Any]:
    """The function that writes a submission for a configuration's task. ValueError for a task that has none."""
    if config.task not in PREDICTION:
        raise ValueError(f"the task {config.task} has no submissions: predict is for {', '.join(PREDICTION)}")
    run: Callable[..., Any] = import_module(PREDICTION[config.task]).run_prediction
    return run


def task_of(config: Any) -> "Task":
    """The task of a configuration."""
    return task_named(config.task)


def task_named(name: str) -> "Task":
    """The task of that name, one of `TASKS`."""
    module, _, name = TASKS[name].partition(":")
    task: Task = getattr(import_module(module), name)
    return task
