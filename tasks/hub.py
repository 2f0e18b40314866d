"""ModelScope's hub, which nothing asks for a directory that is here."""

import os

from modelscope.utils import automodel_utils

_CHECK = "_is_valid_hub_model_id"


def keep_local_directories_off_the_hub() -> None:
    """Let ModelScope see that a relative path such as `work_dir/best` is no hub id.

    Its check whether a model's publisher is trusted takes anything with one slash for a hub id and asks the hub, for
    20 seconds when there is no network, before it looks whether that path exists.
    """
    looks_like_an_id = getattr(automodel_utils, _CHECK, None)
    if looks_like_an_id is None or hasattr(looks_like_an_id, "asks_for_paths"):  # older releases have no such check
        return

    def is_an_id(name: str) -> bool:
        return looks_like_an_id(name) and not os.path.exists(name)

    is_an_id.asks_for_paths = False  # type: ignore[attr-defined]
    setattr(automodel_utils, _CHECK, is_an_id)
