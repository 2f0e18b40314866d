"""A captioner with adapters, as the command line and the server name them."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.run_folder import RunFolder
from models.ofa.saving import ENDINGS, GENERATION
from tasks.captioning.adapted import AdapterCaptioner
from tasks.evaluating import find_checkpoint


def open_captioner(
    model: str | os.PathLike[str],
    adapters: Mapping[str, str],
    *,
    device: str = "auto",
    settings: Mapping[str, Any] | None = None,
) -> AdapterCaptioner:
    """A model, which is asked without an adapter too, and its adapters: folders, or runs, whose best ones are meant.

    `settings` may have those of the search, in place of the adapters'.
    """
    folders = {name: _best(folder) for name, folder in adapters.items()}
    captioner = AdapterCaptioner.from_directories(folders, base=model, device=device, plain=True)
    captioner.search |= {name: value for name, value in (settings or {}).items() if name in (*GENERATION, ENDINGS)}
    return captioner


def styles_to_ask(captioner: AdapterCaptioner | None, use: str | None, styles: Sequence[str] | None) -> Sequence[str]:
    """`styles` (none for all), of the adapter `use` where one is named. ValueError for one that is not there."""
    if use is None:
        return styles or ()
    if captioner is None:
        raise ValueError(f"--use {use}: there is no such adapter: add --adapter {use}=DIR")
    return captioner.of_adapter(use, styles or ())


def _best(folder: str) -> Path:
    return find_checkpoint(folder, None) if RunFolder(folder).checkpoints.is_dir() else Path(folder)
