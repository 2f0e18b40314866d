"""BERT's WordPiece vocabulary, read into transformers' own tokenizer: LXMERT and VisualBERT share it."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from transformers import BertTokenizer

from data.reading import parse_json, read_text

VOCAB_FILE = "vocab.txt"
SPECIAL = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
_WORD = re.compile(r"\w+|[^\w\s]")
_TOKENIZER_FILE, _TOKENIZER_CONFIG_FILE = "tokenizer.json", "tokenizer_config.json"
_WHOSE = f"a WordPiece vocabulary, such as bert-base-uncased's, lists {', '.join(SPECIAL.values())} among its entries"


def load_wordpiece(source: str | Path | Sequence[str], *, lower_case: bool | None = None) -> BertTokenizer:
    """The tokenizer of a vocabulary, whose entries are numbered in their order.

    A text that spells a special token, `[MASK]` say, gets that token: so transformers does it. The originals split it
    into its characters. Mask by id, never by text.

    Args:
        source: a file with an entry a line; a directory with `vocab.txt` or else a WordPiece `tokenizer.json`; or the
            entries themselves.
        lower_case: None is what a directory's `tokenizer_config.json` says, or else True.

    Raises:
        ValueError: the file is missing or unreadable, is the vocabulary of another model, or repeats an entry.
    """
    where: Path | str
    if isinstance(source, str | Path):
        path = Path(source)
        settings = _read_json(path / _TOKENIZER_CONFIG_FILE) if (path / _TOKENIZER_CONFIG_FILE).is_file() else {}
        entries, where = _read_entries(path)
        if lower_case is None:
            lower_case = bool(settings.get("do_lower_case", True))
    else:
        entries, where = list(source), "the list of entries"
    _check(entries, where)
    vocab = {entry: number for number, entry in enumerate(entries)}
    tokens: dict[str, Any] = {f"{name}_token": token for name, token in SPECIAL.items()}
    return BertTokenizer(vocab=vocab, do_lower_case=lower_case is not False, **tokens)


def make_wordpiece(texts: Iterable[str], size: int) -> list[str]:
    """The entries of a vocabulary for these texts: the special ones, every character, and the most frequent words.

    At most `size` entries, the special ones and characters always among them; a word that is left out is spelled.
    Numbers and marks are words of their own, letter case is ignored.
    """
    words: Counter[str] = Counter()
    for text in texts:
        words.update(_WORD.findall(text.lower()))
    characters = sorted({character for word in words for character in word})
    entries = [*SPECIAL.values(), *characters, *(f"##{character}" for character in characters)]
    known = set(entries)
    for word, _ in sorted(words.items(), key=lambda item: (-item[1], item[0])):
        if len(entries) >= size:
            break
        if word not in known:
            entries.append(word)
    return entries


def entries_of(tokenizer: BertTokenizer) -> list[str]:
    """The entries of a vocabulary in the order of their ids."""
    return sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)


def save_wordpiece(tokenizer: BertTokenizer, directory: str | Path) -> None:
    """Write `vocab.txt` and `tokenizer_config.json`, which `load_wordpiece` and transformers read."""
    folder = Path(directory)
    (folder / VOCAB_FILE).write_text("".join(f"{entry}\n" for entry in entries_of(tokenizer)), encoding="utf-8")
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": bool(tokenizer.do_lower_case)}
    (folder / _TOKENIZER_CONFIG_FILE).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def check_vocabulary(tokenizer: BertTokenizer, vocab_size: int) -> None:
    """See that a vocabulary is as large as the word embeddings of the model that it is used with.

    Raises:
        ValueError: it is of another size: it belongs to another model.
    """
    if len(tokenizer) != vocab_size:
        raise ValueError(
            f"the vocabulary has {len(tokenizer)} entries, but the model embeds {vocab_size} words: "
            "use the vocabulary that the model was trained with"
        )


def _read_entries(path: Path) -> tuple[list[str], Path]:
    """The entries, and the file that they are from."""
    if path.is_dir():
        files = [path / VOCAB_FILE, path / _TOKENIZER_FILE]
        found = next((file for file in files if file.is_file()), None)
        if found is None:
            raise ValueError(f"{path} has no WordPiece vocabulary: neither {VOCAB_FILE} nor {_TOKENIZER_FILE} is in it")
        path = found
    if path.suffix == ".json":
        return _entries_of_tokenizer_file(path), path
    return _read_text(path).replace("\r\n", "\n").removesuffix("\n").split("\n"), path


def _entries_of_tokenizer_file(path: Path) -> list[str]:
    model = _read_json(path).get("model")
    if not isinstance(model, dict) or model.get("type") != "WordPiece" or not isinstance(model.get("vocab"), dict):
        kind = model.get("type") if isinstance(model, dict) else None
        raise ValueError(f"{path} is the vocabulary of another model ({kind or 'no tokenizer.json'}): {_WHOSE}")
    vocab = model["vocab"]
    if sorted(vocab.values()) != list(range(len(vocab))):
        raise ValueError(f"{path}: the entries are not numbered from 0 without a gap; copy the file again")
    return sorted(vocab, key=vocab.__getitem__)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = parse_json(_read_text(path))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); copy it again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a JSON object; copy it again")
    return content


def _read_text(path: Path) -> str:
    try:
        return read_text(path)
    except OSError as error:
        raise ValueError(f"cannot read the vocabulary {path}: {error.strerror}; name a {VOCAB_FILE}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: name a {VOCAB_FILE} with an entry a line") from error


def _check(entries: Sequence[str], where: object) -> None:
    lacking = [token for token in SPECIAL.values() if token not in entries]
    if lacking:
        raise ValueError(f"{where} is the vocabulary of another model: it lacks {', '.join(lacking)}; {_WHOSE}")
    repeated = [entry for entry, times in Counter(entries).items() if times > 1]
    if repeated:
        first = repeated[0]
        lines = [number + 1 for number, entry in enumerate(entries) if entry == first]
        raise ValueError(f"{where}: entry {first!r} stands in lines {lines}; every entry must be there once")
