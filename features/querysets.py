"""Row predicates: chainable, named in the words of design.md, without page-shaped logic."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Self

from django.contrib.postgres.search import SearchQuery
from django.db import models
from django.db.models import Count, ExpressionWrapper, F, OuterRef, Q, Subquery, Window
from django.db.models.functions import Coalesce


class Phrase(SearchQuery):
    """The words of a text in order, the last one as a prefix; see the functions of the first migration."""

    SEARCH_TYPES: ClassVar[dict[str, str]] = {"prose": "facet_prose_query"}

    def __init__(self, text: str) -> None:
        super().__init__(text, search_type="prose")


def at_addresses(addresses: Iterable[tuple[int, int]]) -> Q | None:
    """Return the predicate of `(dictionary id, index)` addresses that names each dictionary once; None for none."""
    indices: dict[int, list[int]] = {}
    for dictionary, index in addresses:
        indices.setdefault(dictionary, []).append(index)
    wanted = Q()
    for dictionary, of_dictionary in indices.items():
        wanted |= Q(dictionary_id=dictionary, index__in=of_dictionary)
    return wanted if indices else None


class DictionaryQuerySet(models.QuerySet):
    """Dictionaries."""

    def at(self, model: str, source: str) -> Self:
        """Keep the dictionary with the address `model/source`."""
        return self.filter(model__slug=model, source=source)

    def built(self) -> Self:
        """Keep dictionaries whose dashboards are built."""
        return self.filter(built_at__isnull=False)

    def with_facts(self) -> Self:
        """Join what a card of the dictionary shows."""
        return self.select_related("model", "release", "tokenization__corpus")


class FeatureQuerySet(models.QuerySet):
    """Features; begin with `of`, so that Postgres prunes to the dictionary's partition."""

    def of(self, *dictionaries: int) -> Self:
        """Keep the features of the given dictionaries (ids)."""
        if len(dictionaries) == 1:
            return self.filter(dictionary_id=dictionaries[0])
        return self.filter(dictionary_id__in=dictionaries)

    def at(self, addresses: Iterable[tuple[int, int]]) -> Self:
        """Keep the features at `(dictionary id, index)` addresses."""
        wanted = at_addresses(addresses)
        return self.none() if wanted is None else self.filter(wanted)

    def alive(self) -> Self:
        """Keep features that fired at least once."""
        return self.filter(firing_count__gt=0)

    def dead(self) -> Self:
        """Keep features that never fired."""
        return self.filter(firing_count=0)

    def firing_between(self, low: float | None, high: float | None, n_tokens: int) -> Self:
        """Keep features whose density over `n_tokens` lies in [low, high]; None leaves a side open."""
        rows = self
        if low is not None:
            rows = rows.filter(firing_count__gte=low * n_tokens)
        if high is not None:
            rows = rows.filter(firing_count__lte=high * n_tokens)
        return rows

    def peaking_on(self, token_ids: Iterable[int]) -> Self:
        """Keep features that have one of the tokens among their peak tokens."""
        return self.filter(peak_token_ids__overlap=list(token_ids))

    def promoting(self, token_ids: Iterable[int]) -> Self:
        """Keep features that have one of the tokens among their promoted tokens."""
        return self.filter(promoted_ids__overlap=list(token_ids))


_BY_PERSON = ExpressionWrapper(Q(author__isnull=False), output_field=models.BooleanField())
_BEST_FIRST = ("-by_person", "-votes", "-created_at", "-id")


class ExplanationQuerySet(models.QuerySet):
    """Explanations by methods and by people."""

    def about(self, dictionary: int, index: int) -> Self:
        """Keep explanations of one feature."""
        return self.filter(dictionary_id=dictionary, index=index)

    def at(self, addresses: Iterable[tuple[int, int]]) -> Self:
        """Keep explanations of the features at `(dictionary id, index)` addresses."""
        wanted = at_addresses(addresses)
        return self.none() if wanted is None else self.filter(wanted)

    def by_people(self) -> Self:
        """Keep labels: explanations with an author."""
        return self.filter(author__isnull=False)

    def mentioning(self, phrase: str) -> Self:
        """Keep explanations that contain the words of the phrase in order; the last word may be a prefix."""
        return self.filter(words=Phrase(phrase))

    def mentioning_all(self, text: str) -> Self:
        """Keep explanations that contain every word of the text, in any order."""
        rows = self
        for word in text.split():
            rows = rows.mentioning(word)
        return rows

    def best_first(self) -> Self:
        """Order as a label is chosen: people before methods, then by votes, then the newest."""
        return self.annotate(by_person=_BY_PERSON).order_by(*_BEST_FIRST)

    def best_of_each(self) -> Self:
        """Keep the best explanation of each feature, annotated with `n`, how many the feature has."""
        rows = self.annotate(by_person=_BY_PERSON, n=Window(Count("pk"), partition_by=[F("dictionary_id"), F("index")]))
        return rows.order_by("dictionary_id", "index", *_BEST_FIRST).distinct("dictionary_id", "index")

    def with_vote_of(self, user_id: int | None) -> Self:
        """Annotate `my_vote`: the user's vote, 0 without one."""
        from features.models import Vote

        mine = Vote.objects.filter(explanation=OuterRef("pk"), user_id=user_id).values("value")
        return self.annotate(my_vote=Coalesce(Subquery(mine), 0, output_field=models.SmallIntegerField()))
