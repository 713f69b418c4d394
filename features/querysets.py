"""Row predicates: chainable, named in the words of design.md, without page-shaped logic."""

from __future__ import annotations

from collections.abc import Collection
from typing import Self

from django.db import models


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

    def within(self, indices: Collection[int]) -> Self:
        """Keep the features of some indices, which go as one parameter however many they are."""
        listed = "{" + ",".join(map(str, indices)) + "}"
        return self.extra(where=['"index" = ANY(%s::int[])'], params=[listed])

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


class ExplanationQuerySet(models.QuerySet):
    """Explanations by methods and by people, of one dictionary: search asks for those of all in its own way."""

    def about(self, dictionary: int, index: int) -> Self:
        """Keep explanations of one feature."""
        return self.filter(dictionary_id=dictionary, index=index)

    def mentioning(self, phrase: str) -> Self:
        """Keep explanations that contain the words of the phrase in order; the last word may be a prefix.

        `IS TRUE` keeps Postgres from the index of words: to read a dictionary's explanations takes less than to find
        in the index those of all dictionaries that have a common word.
        """
        return self.extra(where=["(words @@ facet_prose_query(%s)) IS TRUE"], params=[phrase])

    def mentioning_all(self, text: str) -> Self:
        """Keep explanations that contain every word of the text, in any order."""
        rows = self
        for word in text.split():
            rows = rows.mentioning(word)
        return rows
