"""COCO's captions as sentences about pictures: there is no question and no answer."""

from collections.abc import Iterator
from pathlib import Path

from data.questions.files import PathLike, read_object
from data.questions.records import Question

CAPTION = "caption"


def read_coco_captions(path: PathLike) -> Iterator[Question]:
    """Captions of `{"images": [{"id", "file_name"}], "annotations": [{"id", "image_id", "caption"}]}`.

    A picture's id is its file's name without suffix, as features have it. Raises ValueError, with file and record, for
    a file that cannot be read, and a caption of a picture that is not listed.
    """
    content = read_object(path)
    names = {one.get("id", int, str): Path(one.get("file_name", str)).stem for one in content.records("images")}
    for one in content.records("annotations"):
        image = one.get("image_id", int, str)
        if image not in names:
            raise one.wrong(f"image_id {image} is not among the images", "add it there, or remove the caption")
        text = one.get("caption", str).strip()
        yield Question(one.get("id", int, str), (names[image],), text, question_type=CAPTION)
