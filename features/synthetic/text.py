"""Made-up tokens, contexts and explanations, the same for the same seed.

Suffixes: C contexts, T tokens of all contexts end to end, V the vocabulary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

from features.services.explanations import MethodExplanation
from inference.dashboards.results import ContextTable

N_VOCABULARY = 32_768
CONTEXT_SIZE = 128
CONTEXTS_PER_DOCUMENT = 64
TEST_PERCENT = 10
BOS = 0
LEFT_OUT = 24  # the commonest words are in no explanation
METHOD = "synthetic"
_SIGNS = "\n .,:;()[]{}'\"=+-*/<>!?#@&%$|\\~^_0123456789\t…“”"
_COMMON = (
    "the of and to in is a for that with as on by it from return self def import if not else this are or an be at was "
    "which class value name list type data file text string number none true false error when where each other"
)
_ONSETS = "b br c ch d dr f fl g gr h j k l m n p pl qu r s sh sl st t th tr v w z"
_VOWELS = "a e i o u ai ea ou"
_CODAS = ["", "n", "r", "l", "s", "nd", "st", "rk", "m", "t"]
_TEMPLATES = (
    "mentions of {0}",
    "{0} in {1} of {2}",
    "the word “{0}” after {1}",
    "{0} and {1}, related to {2}",
    "phrases about {0} {1}",
    "tokens that follow {0} (often {1})",
    "{0}",
    "names of {0} {1} in {2} contexts",
)


def words(n: int) -> list[str]:
    """Return n different words, the commonest first."""
    made = dict.fromkeys(_COMMON.split())
    rng = np.random.default_rng(7)
    onsets, vowels = _ONSETS.split(), _VOWELS.split()
    while len(made) < n:
        for a, b, c, d, e in rng.integers(0, 1 << 16, (n, 5)).tolist():
            word = onsets[a % len(onsets)] + vowels[b % len(vowels)] + _CODAS[c % len(_CODAS)]
            if d % 3:
                word += onsets[d % len(onsets)] + vowels[e % len(vowels)] + _CODAS[(d + e) % len(_CODAS)]
            made.setdefault(word)
    return list(made)[:n]


def vocabulary() -> list[str]:
    """Return the texts of N_VOCABULARY tokens: BOS, signs, then words, two in three after a space."""
    tokens = ["<|bos|>", *_SIGNS]
    for number, word in enumerate(words(N_VOCABULARY)):
        tokens += [f" {word}"] if number % 2 else [f" {word}", word]
    return tokens[:N_VOCABULARY]


def contexts(*, seed: int, n_contexts: int, with_text: bool) -> ContextTable:
    """Return contexts of tokens that follow Zipf's law; without `with_text`, as whoever needs only ids wants them."""
    rng = np.random.default_rng([seed, 1])
    texts_v = vocabulary()
    ids_ct = zipf(rng, (n_contexts, CONTEXT_SIZE), N_VOCABULARY - 1, flat=2.0).astype(np.uint32) + 1
    ids_ct[:, 0] = BOS
    lengths_v = np.array([len(text) for text in texts_v], dtype=np.uint32)
    lengths_v[BOS] = 0
    ends_ct = np.cumsum(lengths_v[ids_ct], axis=1, dtype=np.uint32)
    starts_ct = ends_ct - lengths_v[ids_ct]
    document_c = np.arange(n_contexts, dtype=np.int32) // CONTEXTS_PER_DOCUMENT
    made = [""] * n_contexts
    if with_text:
        shown_v = ["", *texts_v[1:]]
        made = ["".join([shown_v[token] for token in row.tolist()]) for row in ids_ct]
    return ContextTable(
        text=made,
        document_c=document_c,
        line_c=1 + 4 * (np.arange(n_contexts, dtype=np.int32) % CONTEXTS_PER_DOCUMENT),
        split_c=(document_c % 100 < TEST_PERCENT).astype(np.uint8),
        duplicate_of_c=np.arange(n_contexts, dtype=np.int32),
        n_similar_c=np.zeros(n_contexts, dtype=np.int32),
        indptr_c=np.arange(n_contexts + 1, dtype=np.int64) * CONTEXT_SIZE,
        token_ids_t=ids_ct.reshape(-1),
        starts_t=starts_ct.reshape(-1),
        ends_t=ends_ct.reshape(-1),
        has_bos=True,
        digest=hashlib.sha256(f"synthetic {seed} {n_contexts} {CONTEXT_SIZE}".encode()).hexdigest(),
    )


def explanations(*, seed: int, dictionary: int, explained: np.ndarray) -> Iterator[MethodExplanation]:
    """Yield an explanation of every index of `explained`; the commonest of its 8,000 words is in one of seven."""
    rng = np.random.default_rng([seed, 2, dictionary])
    known = words(8_000)[LEFT_OUT:]
    word_nk = zipf(rng, (len(explained), 3), len(known), flat=4.0).tolist()
    template_n = rng.integers(0, len(_TEMPLATES), len(explained)).tolist()
    for index, numbers, template in zip(explained.tolist(), word_nk, template_n, strict=True):
        text = _TEMPLATES[template].format(*(known[number] for number in numbers))
        yield MethodExplanation(index, text, {"synthetic": True})


def zipf(rng: np.random.Generator, shape: tuple[int, ...], n: int, *, flat: float) -> np.ndarray:
    """Return numbers below n with a probability in proportion to 1 / (number + flat)."""
    bounds = np.cumsum(1.0 / (np.arange(n) + flat))
    return np.minimum(np.searchsorted(bounds, rng.random(shape) * bounds[-1]), n - 1).astype(np.int32)
