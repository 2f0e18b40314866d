"""A nano LXMERT that is pre-trained on a few drawn scenes, and its configuration."""

import json
from pathlib import Path
from typing import Any

from tests.tasks.answering.nano import NETWORK as ANSWERING
from tests.tasks.answering.nano import TRAIN as ANSWERING_TRAIN

NETWORK = ANSWERING | {"num_object_labels": 12, "num_attr_labels": 8}
TRAIN = {name: value for name, value in ANSWERING_TRAIN.items() if name != "loss"} | {"max_epochs": 2}


def nano(folder: Path, **sections: dict[str, Any]) -> Path:
    """A configuration file for a run in `folder`/run; `sections` add to its sections."""
    document: dict[str, Any] = {
        "task": "vision-language-pretraining",
        "work_dir": str(folder / "run"),
        "model": {"vocabulary": "train", "config": NETWORK} | sections.get("model", {}),
        "data": sections.get("data", {"format": "demo", "demo_images": 28}),
        "train": TRAIN | sections.get("train", {}),
        "eval": {"batch_size": 64, "bootstrap": 20} | sections.get("eval", {}),
    }
    file = folder / "conf.json"
    file.write_text(json.dumps(document))
    return file
