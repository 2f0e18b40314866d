"""The command `style add`: a style learnt from a few captioned pictures, in a checkpoint that knows its name."""

import logging
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.files import replacing_folder
from data.names import fold
from data.readers import form_of, read_split
from data.reading import load_json
from data.samples import Sample
from data.tables import READERS, read_records, table_files
from models.ofa.added_style import with_style
from models.ofa.checkpoints import load_model
from models.ofa.saving import read_configuration, write_model
from models.ofa.styles import STYLE_MAP_FILE
from preprocessors import OfaStylishImageCaptioningPreprocessor
from tasks.captioning.captioner import place
from tasks.captioning.learning_style import STEPS, learn_style, start_of
from tasks.evaluating import find_checkpoint

LOGGER = logging.getLogger("stylecap")
#: Images beyond which a training is the better way: what the tower makes of all of them is kept in memory.
MOST_IMAGES = 500
_SUFFIXES = (".jpg", ".png", ".jpeg", ".webp")


def add_style(
    name: str,
    model: str,
    examples: str,
    out: str,
    *,
    images: str | None = None,
    description: str | None = None,
    steps: int = STEPS,
    device: str = "auto",
) -> dict[str, Any]:
    """Learn the style `name` from `examples` and write a checkpoint that has it beside the styles of `model`.

    Args:
        model: a run (its best checkpoint), a checkpoint or an exported folder. An adapter is added to the weights.
        examples: a file or folder as `read_examples` reads it; `images`: its folder of pictures.
        out: a folder that does not exist yet.
        description: words that the style starts from; None: the mean of the model's styles.
        steps: updates of the style's vector.

    Returns:
        The style, its token, how many captions and images it was learnt from, the loss of their tokens before and
        after, seconds, and the folder.

    Raises:
        ValueError: a name that is taken, no captioner of this project, no examples, a picture that is not there, or
            something at `out` already.
    """
    started, target = time.monotonic(), Path(out)
    if target.exists():
        raise ValueError(f"{target} exists already: name another place, or remove it yourself")
    source = _captioner(model)
    generation = read_configuration(source)["pipeline"]["generation"]
    preprocessor = OfaStylishImageCaptioningPreprocessor.from_model_dir(source)
    known = preprocessor.style_map.with_style(name)  # refused before the model is read
    with tempfile.TemporaryDirectory() as unpacked:
        samples = read_examples(examples, images, name, Path(unpacked))
        network = place(load_model(source), device)
        learnt = learn_style(network, preprocessor, samples, start_of(network, preprocessor, description), steps=steps)
    grown, tokenizer, known = with_style(network, preprocessor.tokenizer, preprocessor.style_map, name, learnt.vector)
    settings: dict[str, Any] = {"preprocessor": preprocessor.settings, "generation": generation}
    with replacing_folder(target) as folder:
        write_model(folder, grown, tokenizer, style_map=known, formats=("safetensors",), **settings)
    style = list(known.tokens)[-1]
    return {
        "style": style,
        "token": known.tokens[style],
        "captions": len(samples),
        "images": len({sample.image for sample in samples}),
        "loss": {"before": round(learnt.before, 4), "after": round(learnt.after, 4)},
        "seconds": round(time.monotonic() - started, 1),
        "folder": str(target),
    }


def _captioner(model: str) -> Path:
    """The checkpoint to start from. ValueError where it is none of a captioner."""
    if not Path(model).is_dir():
        raise ValueError(f"{model} is no folder: name a run, a checkpoint or an exported folder")
    source = find_checkpoint(model, model)
    if not (source / STYLE_MAP_FILE).is_file():
        raise ValueError(
            f"{source} has no {STYLE_MAP_FILE}: a style is added to a captioner that this project has trained; name "
            "its run, a checkpoint or an exported folder"
        )
    return source


def read_examples(path: str, images: str | None, name: str, unpack_to: Path) -> list[Sample]:
    """The captions of a new style: of a file's records those of the style `name`, or all where they have one style.

    Args:
        path: a table (JSON, JSONL, CSV, ..., or a folder with one), conversations, or JSON in the form of
            Personality-Captions, COCO or Karpathy (its split train); which, is seen from the first record.
        images: folder of the pictures; None is that of a table.
        unpack_to: folder for pictures that a table holds.

    Raises:
        ValueError: what cannot be read, no caption, several styles none of which is `name`, pictures that are missing,
            or too many.
    """
    form, suffix = _form(Path(path), images)
    if images is None and form not in ("table", "messages"):
        raise ValueError(f"{path} names pictures without their folder: add --images DIR")
    split = read_split(
        "train", format=form, annotations=path, image_dir=images, image_suffix=suffix, unpack_to=unpack_to
    )
    samples = [sample for sample in split if sample.caption.strip()]
    samples = _of_style(samples, name, path)
    if not samples:
        raise ValueError(f"{path} has no caption that says anything: write some")
    files = list(dict.fromkeys(sample.image for sample in samples))
    missing = [file for file in files if not Path(file).is_file()]
    if missing:
        more = f" ({len(missing)} pictures are missing)" if len(missing) > 1 else ""
        raise ValueError(f"{path}: picture {missing[0]} does not exist{more}: correct its name, or --images")
    if len(files) > MOST_IMAGES:
        raise ValueError(
            f"{path} has {len(files)} images, and a style is learnt from at most {MOST_IMAGES}: take some of them, or "
            "train with them (train --checkpoint)"
        )
    return samples


def _of_style(samples: Sequence[Sample], name: str, path: str) -> list[Sample]:
    styles = list(dict.fromkeys(sample.style for sample in samples))
    own = [sample for sample in samples if fold(sample.style) == fold(name)]
    if not own and len(styles) > 1:
        raise ValueError(
            f"{path} has captions in {len(styles)} styles ({', '.join(styles[:3])}, ...), and none in {name!r}: name "
            "the style as the file does, or keep only its captions"
        )
    return own or list(samples)


def _form(path: Path, images: str | None) -> tuple[str, str]:
    """The name that `data.readers` has for the form of a file, and the suffix of its images. ValueError for no file."""
    if not path.exists():
        raise ValueError(f"{path} does not exist: name a file of captioned pictures")
    if path.suffix.lower() == ".json" and path.is_file():
        try:
            content = load_json(path)
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: broken JSON ({error}): repair it") from error
        form = form_of(content)
        if form == "personality":
            return form, _suffix(Path(images or "."), str(content[0]["image_hash"]))
        if isinstance(content, dict):
            return form or "karpathy", ""  # whose reader says what is missing
    if path.is_file() and path.suffix.lower() not in READERS:
        raise ValueError(f"{path}: examples are a file that ends in one of {', '.join(READERS)}, or a folder with one")
    first = next((record for _, record in read_records(table_files(path)[0])), {})
    return ("messages" if "messages" in first else "table"), ""


def _suffix(images: Path, name: str) -> str:
    """How the names of picture files end; .jpg, as in Personality-Captions, where none is there."""
    return next((suffix for suffix in _SUFFIXES if (images / f"{name}{suffix}").is_file()), _SUFFIXES[0])
