"""OFA's vocabulary: BART's byte-level BPE followed by `<code_i>` (style and image codes) and `<bin_i>` (coordinates).

Ids and decoded text equal those of the Python tokenizer that OFA was trained with. Three inputs are known to differ in
principle, none of which occurs in natural captions: letters or digits that entered Unicode after one of the two regular
expression engines was built (they are then grouped as symbols); the separators U+001C to U+001F before `<mask>`, which
Python calls blank and Rust does not; and lone surrogates, which are not text and are refused here.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from data.reading import load_json, read_text

BOS, PAD, EOS, UNK = 0, 1, 2, 3
LEADING_TOKENS = ("<s>", "<pad>", "</s>", "<unk>")  # ids 0..3 in every OFA vocabulary
MASK_TOKEN = "<mask>"
NUM_CODES, NUM_BINS = 8192, 1000  # of the public OFA vocabularies
MIN_TRAINED_SIZE = len(LEADING_TOKENS) + 256 + 1  # every byte must have an entry, or some texts could not be written

_VOCAB_FILE, _MERGES_FILE, _CONFIG_FILE = "vocab.json", "merges.txt", "tokenizer_config.json"


class OFATokenizer(PreTrainedTokenizerFast):
    """Byte-level BPE with style codes, on the Rust backend.

    `vocab` maps the BPE entries to ids 0..n-1; `merges` lists the pairs in order of rank. `num_codes` tokens `<code_i>`
    and `num_bins` tokens `<bin_i>` follow, unless `vocab` holds them already: then their ids stay as they are.
    Raises `ValueError` where the vocabulary has gaps or lacks a special token at its place.
    """

    vocab_files_names = {"vocab_file": _VOCAB_FILE, "merges_file": _MERGES_FILE}
    model_input_names = ["input_ids", "attention_mask"]
    _tokenizer: Tokenizer  # the Rust object

    def __init__(
        self,
        vocab: dict[str, int],
        merges: Sequence[tuple[str, str]],
        num_codes: int = NUM_CODES,
        num_bins: int = NUM_BINS,
    ) -> None:
        _check_vocab(vocab)
        self.num_codes = _count_numbered(vocab, "code") or num_codes
        self.num_bins = _count_numbered(vocab, "bin") or num_bins
        self._tokenizer = _build_backend(vocab, merges, self.num_codes, self.num_bins)
        bos, pad, eos, unk = LEADING_TOKENS
        super().__init__(
            bos_token=bos,
            pad_token=pad,
            eos_token=eos,
            unk_token=unk,
            cls_token=bos,
            sep_token=eos,
            mask_token=MASK_TOKEN,
            clean_up_tokenization_spaces=True,
        )
        self._legacy_tokens = {f"<code_{i}>" for i in range(self.num_codes)}
        self._legacy_tokens |= {f"<bin_{i}>" for i in range(self.num_bins)}

    @classmethod
    def from_pretrained(cls, directory: str | Path, *_: Any, **__: Any) -> Self:  # type: ignore[override]
        """Read `vocab.json` and `merges.txt` (and `tokenizer_config.json`, where we wrote it) of a local directory.

        Options of the hub that transformers may pass along are ignored: nothing is ever downloaded here.
        Raises `ValueError` naming the file that is missing or broken.
        """
        root = Path(directory)
        vocab = _read_json_object(root / _VOCAB_FILE)
        if not all(type(number) is int for number in vocab.values()):
            raise ValueError(f"{root / _VOCAB_FILE}: an entry has no whole number; copy it again")
        merges = _read_merges(root / _MERGES_FILE)
        config = _read_json_object(root / _CONFIG_FILE) if (root / _CONFIG_FILE).is_file() else {}
        counts = {key: config[key] for key in ("num_codes", "num_bins") if key in config}
        try:
            return cls(vocab, merges, **counts)
        except ValueError as error:
            raise ValueError(f"vocabulary in {root}: {error}") from error

    @classmethod
    def train(cls, captions: Iterable[str], vocab_size: int, num_codes: int = NUM_CODES) -> Self:
        """Learn a byte-level BPE from `captions` (any iterable of texts); the same texts give the same vocabulary.

        `vocab_size` counts the special tokens, the 256 bytes, the merges and `<mask>`; `<code_0..num_codes-1>` follow.
        A small corpus may give fewer entries. There are no bins. Raises `ValueError` for a size too small, or no text.
        """
        if vocab_size < MIN_TRAINED_SIZE:
            raise ValueError(
                f"vocabulary size {vocab_size} is too small: the special tokens and the 256 bytes "
                f"alone take {MIN_TRAINED_SIZE}; ask for at least that many"
            )
        texts = [text for text in captions if text]
        if not texts:
            raise ValueError("no captions to train a vocabulary on: the data set is empty")
        backend = Tokenizer(BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = BpeTrainer(
            vocab_size=vocab_size - 1,
            min_frequency=2,
            special_tokens=list(LEADING_TOKENS),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        backend.train_from_iterator(texts, trainer)
        vocab = backend.get_vocab(with_added_tokens=False)
        vocab[MASK_TOKEN] = len(vocab)
        return cls(vocab, _merges_of(backend), num_codes=num_codes, num_bins=0)

    def with_codes(self, num_codes: int) -> Self:
        """The same vocabulary with `num_codes` codes, which is more than it has; every id stays what it is.

        ValueError where other tokens stand after the codes.
        """
        vocab = self._tokenizer.get_vocab(with_added_tokens=False)
        if self.num_bins or _count_numbered(vocab, "code"):
            raise ValueError(
                f"all {self.num_codes} codes of the vocabulary are taken, and other tokens follow them: use a model "
                "with fewer styles"
            )
        return type(self)(vocab, _merges_of(self._tokenizer), num_codes=num_codes, num_bins=0)

    def encode_text(self, text: str, max_length: int | None = None) -> list[int]:
        """Ids of `text` without bos and eos, cut after `max_length` ids."""
        self._forget_call_settings()
        try:
            return self._tokenizer.encode(text, add_special_tokens=False).ids[:max_length]
        except TypeError as error:
            raise ValueError(f"cannot encode {text!r}: it must be a string of valid Unicode ({error})") from error

    def encode_batch(self, texts: Sequence[str], max_length: int | None = None) -> list[list[int]]:
        """Ids of each text without bos and eos, cut after `max_length` ids; one call on several threads."""
        self._forget_call_settings()
        try:
            encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        except TypeError as error:
            raise ValueError(f"the texts to encode must be strings of valid Unicode ({error})") from error
        return [encoding.ids[:max_length] for encoding in encodings]

    def _forget_call_settings(self) -> None:
        # transformers leaves the truncation and padding of its last __call__ in the backend: they would apply here too
        if self._tokenizer.truncation is not None:
            self._tokenizer.no_truncation()
        if self._tokenizer.padding is not None:
            self._tokenizer.no_padding()

    def code_token(self, k: int) -> str:
        """The token `<code_k>`; raises `ValueError` when the vocabulary has no such code."""
        if not 0 <= k < self.num_codes:
            raise ValueError(f"there is no <code_{k}>: this vocabulary holds {self.num_codes} codes, counted from 0")
        return f"<code_{k}>"

    def code_id(self, k: int) -> int:
        """The id of `<code_k>`; raises `ValueError` when the vocabulary has no such code."""
        index = self._tokenizer.token_to_id(self.code_token(k))
        assert index is not None, "every code was added to the backend"
        return index

    def save_pretrained(self, save_directory: str | Path, *_: Any, **__: Any) -> tuple[str, ...]:  # type: ignore[override]
        """Write `vocab.json`, `merges.txt` and `tokenizer_config.json`; `from_pretrained` then gives the same ids."""
        root = Path(save_directory)
        root.mkdir(parents=True, exist_ok=True)
        vocab = self._tokenizer.get_vocab(with_added_tokens=False)
        ordered = dict(sorted(vocab.items(), key=lambda item: item[1]))
        merges = "".join(f"{left} {right}\n" for left, right in _merges_of(self._tokenizer))
        config = {"tokenizer_class": type(self).__name__, "num_codes": self.num_codes, "num_bins": self.num_bins}
        texts = {
            _VOCAB_FILE: json.dumps(ordered, ensure_ascii=False) + "\n",
            _MERGES_FILE: "#version: 0.2\n" + merges,
            _CONFIG_FILE: json.dumps(config, indent=2) + "\n",
        }
        for name, text in texts.items():
            (root / name).write_text(text, encoding="utf-8", newline="\n")
        return tuple(str(root / name) for name in texts)

    def _decode(
        self,
        token_ids: int | list[int],
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        **_: Any,
    ) -> str:
        """Text of `token_ids` as the Python tokenizer wrote it: codes and bins stand apart, blanks before points go."""
        ids = [token_ids] if isinstance(token_ids, int) else token_ids
        skipped = set(self.all_special_ids) if skip_special_tokens else set()
        pieces: list[str] = []
        run: list[str] = []  # byte-level tokens since the last code or bin: a character may span several of them
        for index in ids:
            if index in skipped:
                continue
            token = self._tokenizer.id_to_token(index)
            if token is None:
                raise ValueError(f"id {index} is outside this vocabulary of {len(self)} entries")
            if token in self._legacy_tokens:
                pieces += [self._tokenizer.decoder.decode(run), token]
                run = []
            else:
                run.append(token)
        pieces.append(self._tokenizer.decoder.decode(run))
        text = " ".join(piece for piece in pieces if piece)
        clean_up = (
            self.clean_up_tokenization_spaces if clean_up_tokenization_spaces is None else clean_up_tokenization_spaces
        )
        return self.clean_up_tokenization(text) if clean_up else text


def _build_backend(
    vocab: dict[str, int], merges: Sequence[tuple[str, str]], num_codes: int, num_bins: int
) -> Tokenizer:
    """The Rust tokenizer: BPE, byte-level splitting, special tokens, codes and bins at the end."""
    try:
        backend = Tokenizer(BPE(vocab=vocab, merges=list(merges), unk_token=LEADING_TOKENS[UNK], fuse_unk=False))
    except Exception as error:  # the Rust library raises plain Exception
        raise ValueError(f"vocabulary and merges do not fit each other: {error}") from error
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    bos, _, eos, _ = LEADING_TOKENS
    backend.post_processor = processors.RobertaProcessing(
        (eos, EOS), (bos, BOS), trim_offsets=True, add_prefix_space=False
    )
    backend.add_special_tokens([AddedToken(token, normalized=False) for token in LEADING_TOKENS])
    # the mask swallows the blank before it, so that it stands for a word together with its space
    backend.add_special_tokens([AddedToken(MASK_TOKEN, lstrip=True, normalized=False)])
    numbered = [f"<code_{i}>" for i in range(num_codes)] + [f"<bin_{i}>" for i in range(num_bins)]
    backend.add_tokens([AddedToken(token, normalized=False) for token in numbered])
    return backend


def _check_vocab(vocab: dict[str, int]) -> None:
    if sorted(vocab.values()) != list(range(len(vocab))):
        raise ValueError(
            f"the ids must be 0 to {len(vocab) - 1}, each once; use the vocab.json of the model as published"
        )
    for index, token in enumerate(LEADING_TOKENS):
        if vocab.get(token) != index:
            raise ValueError(f"{token} must have id {index}, not {vocab.get(token)}; is this an OFA (BART) vocabulary?")
    if MASK_TOKEN not in vocab:
        raise ValueError(f"{MASK_TOKEN} is missing; is this an OFA (BART) vocabulary?")


def _count_numbered(vocab: dict[str, int], name: str) -> int:
    """How many `<name_i>`, i = 0, 1, …, the vocabulary holds."""
    count = 0
    while f"<{name}_{count}>" in vocab:
        count += 1
    return count


def _merges_of(backend: Tokenizer) -> list[tuple[str, str]]:
    # the merges can be read from the Rust model only through its JSON form
    return [(left, right) for left, right in json.loads(backend.to_str())["model"]["merges"]]


def _read_json_object(path: Path) -> dict[str, Any]:
    try:
        content = load_json(path)
    except OSError as error:
        raise ValueError(
            f"cannot read {path}: {error.strerror}; a directory with {_VOCAB_FILE} and {_MERGES_FILE} is needed"
        ) from error
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); copy it again from the model's directory") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object, not a {type(content).__name__}")
    return content


def _read_merges(path: Path) -> list[tuple[str, str]]:
    try:
        # not splitlines(): that also breaks at separators of Unicode, which are no line ends in this format
        lines = read_text(path).replace("\r\n", "\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"cannot read {path}: {error}; a directory with {_VOCAB_FILE} and {_MERGES_FILE} is needed"
        ) from error
    merges: list[tuple[str, str]] = []
    for number, line in enumerate(lines, start=1):
        if not line or (number == 1 and line.startswith("#version")):
            continue
        pair = line.split(" ")
        if len(pair) != 2:
            raise ValueError(f"{path}, line {number}: expected two tokens with a blank between, found {line!r}")
        merges.append((pair[0], pair[1]))
    return merges
