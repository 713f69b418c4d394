"""Everything that is stored of a dictionary, a range of features at a time, for whatever writes it to files."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.db import connection

from features import packed_examples, packed_features
from features.models import Context, Dictionary, Document, Example, Explanation, Feature, VocabularyToken
from features.rows import STORED_FEATURE_COLUMNS
from features.selectors.feature_cards import NotBuilt
from features.selectors.sources import dictionary_at
from inference import packing

BATCH = 1024
# Contexts kept at hand; examples of neighbouring features often share them.
KEPT_CONTEXTS = 16_384


class ExampleRow(NamedTuple):
    """One stored example, as features.packed_examples.StoredExample, with its feature."""

    index: int
    group: int
    rank: int
    context: int
    peak_position: int
    peak_value: float
    folded: int
    positions: list[int]
    values: list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextRow:
    """One stored context with its tokens as the vocabulary writes them."""

    ordinal: int
    document: str
    line: int
    is_test: bool
    n_similar: int
    text: str
    token_ids: list[int]
    tokens: list[str]


class StoredDictionary:
    """Reads what readers see of a built dictionary; raises NotBuilt for one without dashboards."""

    def __init__(self, model: str, source: str) -> None:
        self.row: Dictionary = dictionary_at(model, source)
        if self.row.tokenization is None:
            raise NotBuilt(
                f"The dashboards of {model}/{source} are not built yet.", "Build them first.", name=f"{model}/{source}"
            )
        self.tokenization = self.row.tokenization
        self._texts: list[str] = []
        self._contexts: OrderedDict[int, ContextRow] = OrderedDict()
        self._documents: dict[int, str] = {}

    @property
    def n_tokens(self) -> int:
        return self.row.stats.get("n_tokens") or 0

    @property
    def batches(self) -> range:
        """Return the first index of every batch of features."""
        return range(0, self.row.n_features, BATCH)

    def features(self, first: int, size: int = BATCH) -> Iterator[dict[str, Any]]:
        """Yield FEATURE_COLUMNS of the features from `first` on, in order."""
        rows = Feature.objects.of(self.row.pk).filter(index__gte=first, index__lt=first + size)
        for row in rows.order_by("index").values(*STORED_FEATURE_COLUMNS).iterator(chunk_size=size):
            yield row | packed_features.unpack(row.pop("packed"), row["firing_count"])

    def examples(self, first: int, size: int = BATCH) -> list[ExampleRow]:
        """Return the examples of the features from `first` on, by feature, group and rank; load their contexts."""
        rows = Example.objects.filter(dictionary_id=self.row.pk, index__gte=first, index__lt=first + size)
        stored = rows.order_by("index").values_list("index", "packed")
        found = [
            ExampleRow(index, *example)
            for index, packed in stored.iterator(chunk_size=size)
            for example in packed_examples.unpack(packed)
        ]
        self._load({row.context for row in found})
        return found

    def context(self, ordinal: int) -> ContextRow:
        """Return a context, from those at hand if it is among them."""
        if ordinal not in self._contexts:
            self._load({ordinal})
        return self._contexts[ordinal]

    def contexts(self) -> Iterator[ContextRow]:
        """Yield all contexts in order."""
        rows = Context.objects.filter(tokenization_id=self.tokenization.pk).order_by("ordinal")
        for row in rows.iterator(chunk_size=1024):
            yield self._shaped(row)

    def explanations(self, first: int, size: int = BATCH) -> Iterator[Explanation]:
        """Yield the explanations of the features from `first` on."""
        rows = Explanation.objects.filter(dictionary=self.row, index__gte=first, index__lt=first + size)
        yield from rows.select_related("author").defer("words").order_by("index", "id").iterator(chunk_size=size)

    def texts(self, ids: Sequence[int]) -> list[str]:
        """Return the texts of tokens."""
        known = self._vocabulary()
        return [known[token] if 0 <= token < len(known) else f"#{token}" for token in ids]

    def _vocabulary(self) -> list[str]:
        if not self._texts:
            rows = VocabularyToken.objects.filter(model=self.row.model).order_by("token_id")
            self._texts = list(rows.values_list("text", flat=True).iterator(chunk_size=20_000))
        return self._texts

    def _load(self, ordinals: set[int]) -> None:
        missing = [ordinal for ordinal in ordinals if ordinal not in self._contexts]
        for ordinal in ordinals.difference(missing):
            self._contexts.move_to_end(ordinal)
        rows = Context.objects.filter(tokenization_id=self.tokenization.pk, ordinal__in=missing)
        for row in rows.iterator(chunk_size=1024):
            self._contexts[row.ordinal] = self._shaped(row)
        while len(self._contexts) > max(KEPT_CONTEXTS, len(ordinals)):
            self._contexts.popitem(last=False)

    def _shaped(self, row: Context) -> ContextRow:
        ids = packing.unpack_tokens(row.token_ids, self.row.model.d_vocab).tolist()
        return ContextRow(
            ordinal=row.ordinal,
            document=self._document(row.document),
            line=row.line,
            is_test=row.is_test,
            n_similar=row.n_similar,
            text=row.text,
            token_ids=ids,
            tokens=self.texts(ids),
        )

    def _document(self, ordinal: int) -> str:
        if ordinal not in self._documents:
            rows = Document.objects.filter(corpus=self.tokenization.corpus, ordinal__gte=ordinal).order_by("ordinal")
            self._documents |= dict(rows.values_list("ordinal", "name")[:1000])
        return self._documents.get(ordinal, "")


def snapshot() -> Any:
    """Return a context in which all reads see one moment, so that a build in between cannot mix two dashboards."""
    return _Snapshot()


class _Snapshot:
    def __enter__(self) -> None:
        from django.db import transaction

        self._atomic = transaction.atomic()
        nested = connection.in_atomic_block
        self._atomic.__enter__()
        if not nested:
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")

    def __exit__(self, *error: Any) -> None:
        self._atomic.__exit__(*error)
