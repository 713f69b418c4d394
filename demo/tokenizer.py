"""The demonstration's tokenizer, and the corpus as one stream of its tokens.

Shape suffixes: N tokens of a stream, B windows, T tokens of a window.
"""

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from demo.sources import SourceFile, read

BOS = "<|endoftext|>"
BOS_ID = 0
SEED = 20


def train_tokenizer(
    sources: Sequence[SourceFile], *, vocabulary: int = 4096, max_bytes: int = 30_000_000
) -> PreTrainedTokenizerFast:
    """Train byte-level BPE on a sample of the sources, with BOS as token 0."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[BOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_sample(sources, max_bytes), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS, eos_token=BOS, unk_token=BOS)


def _sample(sources: Sequence[SourceFile], max_bytes: int) -> Iterator[str]:
    taken = 0
    for source in random.Random(SEED).sample(sources, len(sources)):
        if taken > max_bytes:
            return
        text = read(source)
        taken += len(text)
        yield text


def save(tokenizer: PreTrainedTokenizerFast, folder: Path, *, context: int) -> None:
    """Write tokenizer.json and a config that transformers reads before and since version 5."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": BOS,
        "unk_token": BOS,
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def token_stream(
    tokenizer: PreTrainedTokenizerFast, sources: Sequence[SourceFile], *, cache: Path | None = None
) -> np.ndarray:
    """Return the shuffled documents as one stream_N of uint16, each behind a BOS."""
    if cache is not None and cache.exists():
        return np.load(cache)
    texts = [text for text in map(read, random.Random(SEED).sample(sources, len(sources))) if text]
    pieces = []
    for start in range(0, len(texts), 512):
        for encoding in tokenizer.backend_tokenizer.encode_batch_fast(texts[start : start + 512]):
            pieces.append(np.array([BOS_ID, *encoding.ids], dtype=np.uint16))
    stream_N = np.concatenate(pieces)
    if cache is not None:
        cache.parent.mkdir(parents=True, exist_ok=True)
        np.save(cache, stream_N)
    return stream_N


class Windows:
    """A stream cut into windows of T tokens; each is read behind a BOS, so that the model always sees one first."""

    def __init__(self, stream_N: np.ndarray, context: int) -> None:
        self.count = len(stream_N) // context
        self.context = context
        self.windows_BT = stream_N[: self.count * context].reshape(self.count, context)
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0))

    def batch(self, step: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return `(input_BT, target_BT)` of a step: every window once an epoch, in an order that the epoch decides."""
        rows = [self._row(number) for number in range(step * size, (step + 1) * size)]
        return self.take(np.array(rows))

    def take(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return `(input_BT, target_BT)` of numbered windows; the input is the target shifted right behind a BOS."""
        target_BT = self.windows_BT[rows].astype(np.int64)
        input_BT = np.full_like(target_BT, BOS_ID)
        input_BT[:, 1:] = target_BT[:, :-1]
        return input_BT, target_BT

    def _row(self, number: int) -> int:
        epoch, place = divmod(number, self.count)
        if self._order[0] != epoch:
            self._order = epoch, np.random.default_rng([SEED, epoch]).permutation(self.count)
        return int(self._order[1][place])


def bytes_per_token(tokenizer: PreTrainedTokenizerFast) -> np.ndarray:
    """Return length_V: how many bytes of text each token stands for, BOS for none."""
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    # In the byte-level alphabet every character is one byte.
    length_V = np.zeros(len(model["vocab"]), dtype=np.int64)
    for token, index in model["vocab"].items():
        length_V[index] = len(token)
    length_V[BOS_ID] = 0
    return length_V
