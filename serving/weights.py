"""The command `compare-weights`: two checkpoints, or one and the numbers printed for it."""

from pathlib import Path

from data.reading import load_json
from models.comparison import Difference
from models.visualbert import VisualBERTModel
from models.visualbert.published import compare_published, published_entry
from models.weights import compare_weights, open_weights
from models.wordpiece import load_wordpiece
from preprocessors.visualbert.pieces import WordPieces


def compare(
    first: str,
    second: str | None,
    published: str | None,
    vocabulary: str | None,
    release: str | None,
    heads: int | None,
) -> list[Difference]:
    """Rows of `first` against `second`, or against the `published` numbers of the `release` that it is named after.

    Raises ValueError for neither or both, and as `models.weights.compare_weights`.
    """
    if (second is None) == (published is None):
        raise ValueError("compare-weights takes two checkpoints, or one and --published: give one of both")
    if second is not None:
        if vocabulary is not None or release is not None:
            raise ValueError("--vocabulary and --release belong to --published: leave them out")
        return compare_weights(first, second, heads=heads)
    if vocabulary is None:
        raise ValueError("--published needs --vocabulary: bert-base-uncased's vocab.txt")
    try:
        content = load_json(str(published))
    except (OSError, ValueError) as error:
        raise ValueError(f"{published} cannot be read ({error}): name the file of published numbers") from None
    entry = published_entry(content, release or Path(first).stem, published)
    model = open_weights(first, heads=heads)[1]
    if not isinstance(model, VisualBERTModel):
        raise ValueError(f"{first} is no VisualBERT: the published numbers are of its releases")
    return compare_published(model, entry, WordPieces.of(load_wordpiece(vocabulary)).split)
