"""What makes a folder of a model one that ModelScope opens."""

from pathlib import Path

from data.files import write_json

CONFIGURATION_FILE = "configuration.json"
MODEL, PREPROCESSOR, PIPELINE = "stylecap-answerer", "stylecap-questions", "stylecap-answering"
TASK = "visual-question-answering"


def write_configuration(folder: Path) -> None:
    """`configuration.json`: the registered names of model, preprocessor and pipeline."""
    sections = {
        "framework": "pytorch",
        "task": TASK,
        "model": {"type": MODEL},
        "preprocessor": {"type": PREPROCESSOR},
        "pipeline": {"type": PIPELINE},
    }
    write_json(folder / CONFIGURATION_FILE, sections)
