"""Sending an exported folder to Hugging Face's or ModelScope's hub: only when somebody asks, and shown first."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from serving.sharing import files_of, verify
from serving.space import APP

HUBS = {"hf": "Hugging Face", "ms": "ModelScope"}
Upload = Callable[[str, Path, bool], None]


def push(
    folder: str, destination: str, *, private: bool, dry_run: bool, upload: Upload | None = None
) -> dict[str, Any]:
    """Send a folder that `export_run` wrote, whose files are compared with their checksums first.

    Args:
        destination: `hf:owner/name` or `ms:owner/name`.
        private: whether a repository that is made for it is private.
        dry_run: only say what would be sent.
        upload: sends a folder to a repository; None: by the hub's own client, with the token it knows.

    Returns:
        `hub`, `repository`, `files` (name -> bytes) and `sent`.

    Raises:
        ValueError: a destination of another form, a folder that was not exported, files that changed since.
    """
    hub, _, repository = destination.partition(":")
    if hub not in HUBS or repository.count("/") != 1 or not all(repository.split("/")):
        raise ValueError(f"{destination} is no destination: write hf:owner/name or ms:owner/name")
    path = Path(folder)
    if not path.is_dir():
        raise ValueError(f"{path} is no folder: export the run first, with --out FOLDER")
    verify(path)
    files = {name: (path / name).stat().st_size for name in files_of(path)}
    if not dry_run:
        (upload or {"hf": _to_hugging_face, "ms": _to_modelscope}[hub])(repository, path, private)
    return {"hub": HUBS[hub], "repository": repository, "files": files, "sent": not dry_run}


def _to_hugging_face(repository: str, folder: Path, private: bool) -> None:
    from huggingface_hub import HfApi

    api = HfApi()
    app = (folder / APP).exists()
    kind = "space" if app else "model"
    api.create_repo(repository, private=private, exist_ok=True, repo_type=kind, space_sdk="gradio" if app else None)
    api.upload_folder(repo_id=repository, folder_path=folder, repo_type=kind)


def _to_modelscope(repository: str, folder: Path, private: bool) -> None:
    from modelscope.hub.api import HubApi
    from modelscope.hub.constants import ModelVisibility

    api = HubApi()
    if not api.repo_exists(repository):
        visibility = ModelVisibility.PRIVATE if private else ModelVisibility.PUBLIC
        api.create_model(repository, visibility=int(visibility))
    api.upload_folder(repo_id=repository, folder_path=str(folder))
