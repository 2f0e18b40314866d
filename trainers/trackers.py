"""Trackers of experiments: told what `history.jsonl` says, which stays the truth. Each is imported only when named.

A tracker is configured by its own settings (WANDB_MODE=offline, SWANLAB_MODE, MLFLOW_TRACKING_URI, a login of its own
command): nothing here reads, keeps or passes on a key. One that fails is told nothing more, and training goes on.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from data.files import flatten, read_object, write_json
from data.run_folder import RunFolder

LOGGER = logging.getLogger("stylecap")
#: Settings that are no tracker's business, whatever stands in them.
_SECRET = ("api_key", "access_token", "token", "password", "secret")
_HIDDEN = "(not shown)"
_LONGEST = 500  # of a parameter, in mlflow


class Tracker:
    """One tracker of a run, and where it shows it.

    Args:
        send: (values, step) -> None.
        finish: what ends the run there.
        link: `{"id", "url"?}`, of what it calls the run.
    """

    def __init__(
        self,
        name: str,
        send: Callable[[dict[str, float], int], Any],
        finish: Callable[[], Any],
        link: Mapping[str, str],
    ) -> None:
        self.name, self.send, self.finish, self.link = name, send, finish, dict(link)
        self.failed = False

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """What the history logs; numbers that are not finite are left out."""
        finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        if finite:
            self._try(lambda: self.send(finite, step))

    def close(self) -> None:
        self._try(self.finish)
        self.failed = True  # closed once

    def _try(self, do: Callable[[], Any]) -> None:
        if self.failed:
            return
        try:
            do()
        except Exception as error:  # of a library that is not ours, about a server that is not ours
            self.failed = True
            LOGGER.warning(
                "%s failed (%s: %s): it is told nothing more; history.jsonl has everything",
                self.name,
                type(error).__name__,
                error,
            )


def open_trackers(
    names: Sequence[str], *, project: str, folder: RunFolder, settings: Mapping[str, Any], resumed: bool
) -> list[Tracker]:
    """Begin the run in the trackers named; their links are kept in the run's folder, for cards and for resuming.

    Args:
        settings: the run's configuration, nested.
        resumed: the run goes on: trackers that can continue theirs.

    Raises:
        ValueError: a tracker that is not installed, or that cannot begin.
    """
    if not names:
        return []
    known = read_object(folder.trackers) if resumed and folder.trackers.exists() else {}
    trackers = []
    for name in dict.fromkeys(names):
        try:
            module = import_module(name)
        except ImportError as error:
            raise ValueError(
                f"train.report_to names {name}, which is not installed ({error}): pip install {name}"
            ) from None
        former = (known.get(name) or {}).get("id")
        try:
            trackers.append(_BEGIN[name](module, project, folder, without_secrets(settings), former))
        except Exception as error:
            for tracker in trackers:
                tracker.close()
            raise ValueError(
                f"{name} cannot begin a run ({error}): set it up, or leave it out of train.report_to"
            ) from error
    write_json(folder.trackers, known | {tracker.name: tracker.link for tracker in trackers})
    return trackers


def without_secrets(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with the values of names such as "token" hidden, at any depth."""
    return {
        name: without_secrets(value) if isinstance(value, Mapping) else _HIDDEN if name.lower() in _SECRET else value
        for name, value in settings.items()
    }


def _wandb(module: Any, project: str, folder: RunFolder, settings: dict[str, Any], former: str | None) -> Tracker:
    asked: dict[str, Any] = {"project": project, "name": folder.path.name, "config": settings, "dir": str(folder.path)}
    if former is not None:
        asked |= {"id": former, "resume": "allow"}
    run = module.init(**asked)
    return Tracker("wandb", lambda values, step: run.log(values, step=step), run.finish, _link(run.id, run.url))


def _swanlab(module: Any, project: str, folder: RunFolder, settings: dict[str, Any], former: str | None) -> Tracker:
    asked: dict[str, Any] = {"project": project, "experiment_name": folder.path.name, "config": settings}
    asked["logdir"] = str(folder.path / "swanlog")
    if former is not None:
        asked |= {"id": former, "resume": "allow"}
    run = module.init(**asked)
    number = getattr(run, "id", None) or folder.path.name
    return Tracker("swanlab", lambda values, step: module.log(values, step=step), module.finish, _link(number))


def _trackio(module: Any, project: str, folder: RunFolder, settings: dict[str, Any], former: str | None) -> Tracker:
    name = former or folder.path.name
    module.init(project=project, name=name, config=settings, resume="never" if former is None else "allow")
    return Tracker("trackio", lambda values, step: module.log(values, step=step), module.finish, _link(name))


def _mlflow(module: Any, project: str, folder: RunFolder, settings: dict[str, Any], former: str | None) -> Tracker:
    module.set_experiment(project)
    run = module.start_run(run_id=former) if former is not None else module.start_run(run_name=folder.path.name)
    if former is None:
        module.log_params({name: str(value)[:_LONGEST] for name, value in flatten(settings).items()})
    number = run.info.run_id
    return Tracker("mlflow", lambda values, step: module.log_metrics(values, step=step), module.end_run, _link(number))


def _link(number: Any, url: Any = None) -> dict[str, str]:
    return {"id": str(number)} | ({"url": url} if isinstance(url, str) and url.startswith("https://") else {})


_BEGIN: dict[str, Callable[[Any, str, RunFolder, dict[str, Any], str | None], Tracker]] = {
    "wandb": _wandb,
    "swanlab": _swanlab,
    "trackio": _trackio,
    "mlflow": _mlflow,
}
