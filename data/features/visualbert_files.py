"""The original VisualBERT's files: features of regions, and questions of Pythia's imdb.

Features come an image at a time, as (image id, features, boxes, record), so that a file larger than the memory can be
read. No file's code is run.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data.plain_files import load_torch, read_npy

_NEEDED = ("question_id", "image_name", "question_str")


class ImageFeatures(NamedTuple):
    """The regions of one image.

    Attributes:
        image_id: the file's name of the image, without `.npy` and `.npz`.
        features: [regions, width].
        boxes: [regions, 4] as the file has them: x1, y1, x2, y2 in pixels; None where it has none.
        record: `file`, and `confidences` [regions] where the file has them.
    """

    image_id: str
    features: NDArray[np.floating]
    boxes: NDArray[np.floating] | None
    record: Mapping[str, Any]


def npy_features(folder: Path, *, width: int | None = None) -> Iterator[ImageFeatures]:
    """A folder with one `.npy` an image: fc6 features of VQA, or one-image files of NLVR2, in the order of their names.

    A file is an array [regions, width], or a dictionary with `image_feat` and `image_bboxes` in an array of its own.

    Args:
        width: numbers a region that are expected.

    Raises:
        ValueError: no such file, one that is damaged or holds code, or features of another width.
    """
    paths = sorted(folder.glob("*.npy"))
    if not paths:
        raise ValueError(f"{folder} has no .npy files: name the folder that holds one for each image")
    for path in paths:
        array, boxes = read_npy(path), None
        if array.dtype.hasobject:
            content = array.item() if array.size == 1 else None
            if not isinstance(content, dict) or "image_feat" not in content:
                raise ValueError(f"{path} holds neither features nor a dictionary with image_feat")
            array, boxes = np.asarray(content["image_feat"]), content.get("image_bboxes")
        record = {"file": path.name}
        yield _checked(_image_id(path.name), array, boxes, record, str(path), width)


def th_features(path: Path, *, width: int | None = None) -> Iterator[ImageFeatures]:
    """A file of NLVR2's or COCO's features for NLVR2: {file name: (features, boxes, confidences)}, in the file's order.

    The tensors are mapped from the file, not read into memory.

    Raises:
        ValueError: as `npy_features`.
    """
    content = load_torch(path)
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"{path} holds no images: it must hold a dictionary of file names")
    for name, value in content.items():
        if not isinstance(value, (list, tuple)) or len(value) != 3:
            raise ValueError(f"{path}: {name} is not (features, boxes, confidences)")
        features, boxes, confidences = map(np.asarray, value)
        record = {"file": path.name, "confidences": confidences}
        yield _checked(_image_id(str(name)), features, boxes, record, f"{path}: {name}", width)


def read_imdb(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The header and the questions of an imdb file of Pythia.

    A question has `question_id`, `image_name`, `image_id`, `question_str`, `question_tokens` and, but in test sets,
    `all_answers` and `valid_answers` (`["<unk>"]` where none is in the answer list).

    Raises:
        ValueError: the file is missing, damaged or holds code, or is no imdb.
    """
    array = read_npy(path)
    rows = array.tolist() if array.dtype.hasobject and array.ndim == 1 else []
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{path} is no imdb file: it must be an array of a header and of questions")
    header, *questions = rows
    for number, question in enumerate(questions, start=1):
        lacking = [name for name in _NEEDED if name not in question]
        if lacking:
            raise ValueError(f"{path}: record {number} has no {', '.join(lacking)}: it is no imdb file of VQA")
    return header, questions


def _checked(
    image_id: str, features: np.ndarray, boxes: Any, record: Mapping[str, Any], where: str, width: int | None
) -> ImageFeatures:
    if features.ndim != 2 or features.dtype.kind != "f" or not len(features):
        raise ValueError(f"{where}: features are {features.dtype} {list(features.shape)}, not numbers [regions, width]")
    if width is not None and features.shape[1] != width:
        raise ValueError(
            f"{where}: a region has {features.shape[1]} numbers, but {width} are expected: these are the features of "
            "another detector"
        )
    boxes = None if boxes is None else np.asarray(boxes)
    if boxes is not None and boxes.shape != (len(features), 4):
        raise ValueError(f"{where}: boxes are {list(boxes.shape)}, but there are {len(features)} regions")
    return ImageFeatures(image_id, features, boxes, record)


def _image_id(name: str) -> str:
    return name.removesuffix(".npy").removesuffix(".npz")
