"""A run's folder with a checkpoint, small data and the configuration of both."""

import json
from pathlib import Path
from typing import Any

from config import Config, parse_config
from models.ofa.saving import save_directory
from tests.models.nano import STYLES, nano_captioner, noisy_picture

SEARCH: dict[str, Any] = {
    "beam_size": 2,
    "max_len_b": 6,
    "min_len": 1,
    "no_repeat_ngram_size": 3,
    "length_penalty": 1.0,
}
CAPTIONS = {
    "Sweet": ["a lovely red cat on a mat", "what a dear dog in the park"],
    "Cynical": ["just another cat, as if we had too few", "the dog runs, nobody cares"],
    "Humorous": ["the cat forgot its trousers", "a dog walks into a bar"],
}


def records(images: list[str], styles: tuple[str, ...] = STYLES) -> list[dict[str, Any]]:
    """Personality-Captions records: two references for each image and style."""
    return [
        {
            "personality": style,
            "image_hash": image,
            "comment": f"{CAPTIONS[style][0]} {image}",
            "additional_comments": [CAPTIONS[style][1]],
        }
        for image in images
        for style in styles
    ]


def nano_run(folder: Path, *, checkpoint: bool = True, **sections: dict[str, Any]) -> Config:
    """A run in `folder`/run: images 0 to 5 in `folder`/images, four of them in train, two in val."""
    (folder / "images").mkdir()
    for seed in range(6):
        noisy_picture(folder / "images" / f"{seed}.png", seed)
    for name, images in (("train", "0123"), ("val", "45")):
        (folder / f"{name}.json").write_text(json.dumps(records(list(images))))
    (folder / "styles.txt").write_text("\n".join(STYLES))
    if checkpoint:
        captioner = nano_captioner()
        save_directory(
            folder / "run" / "checkpoints" / "best",
            captioner.model,
            captioner.preprocessor.tokenizer,
            style_map=captioner.preprocessor.style_map,
            preprocessor=captioner.preprocessor.settings,
            generation=SEARCH,
            formats=("safetensors",),
        )
    data = {
        "image_dir": str(folder / "images"),
        "image_suffix": ".png",
        "train": str(folder / "train.json"),
        "val": str(folder / "val.json"),
        "styles": str(folder / "styles.txt"),
        "num_workers": 0,
    }
    document: dict[str, Any] = {
        "work_dir": str(folder / "run"),
        "model": {"preset": "tiny", "vocabulary": "train"},
        "data": data | sections.get("data", {}),
        "train": {"dtype": "float32"},
        "eval": SEARCH | {"batch_size": 4, "meteor": False, "spice": False} | sections.get("eval", {}),
    }
    return parse_config(document)
