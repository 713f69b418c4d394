"""Adding language models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction

from features.models import LanguageModel, VocabularyToken
from features.services.checks import RESERVED, text_of
from features.words import fold, slugify, storable
from inference.errors import Conflict, InvalidInput


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What is known of a language model once it was loaded; features.loading reads it from a folder or a hub."""

    path: str
    revision: str
    sha256: str
    family: str
    n_layers: int
    n_heads: int
    d_model: int
    d_head: int
    d_mlp: int
    d_vocab: int
    context_size: int
    config: Mapping[str, Any]
    vocabulary: Sequence[str]


@transaction.atomic
def add_model(*, facts: ModelFacts, slug: str, name: str = "", description: str = "") -> LanguageModel:
    """Register a model with the texts of its tokens; adding the same weights again updates the path.

    Raises InvalidInput for a slug that no address can have, Conflict for one that another model has.
    """
    slug = checked_slug(slug)
    known = LanguageModel.objects.select_for_update().filter(slug=slug).first()
    if known is not None and known.sha256 != facts.sha256:
        raise Conflict(
            f"There is a model {slug!r} with other weights.",
            "Choose another name with --name, or remove the old model first.",
            model=slug,
        )
    fields = {field: getattr(facts, field) for field in ModelFacts.__slots__ if field != "vocabulary"}
    if known is not None:
        known.path, known.revision, known.config = facts.path, facts.revision, dict(facts.config)
        known.save(update_fields=["path", "revision", "config"])
        return known
    model = LanguageModel.objects.create(
        slug=slug, name=text_of(name or slug, what="name", limit=200), description=storable(description), **fields
    )
    _copy_vocabulary(model, facts.vocabulary)
    return model


def checked_slug(slug: str) -> str:
    """Return a slug that may be the first segment of an address; raise InvalidInput."""
    if slug != slugify(slug) or not slug or len(slug) > 80:
        raise InvalidInput(
            f"{slug[:100]!r} cannot be part of an address.",
            f"Use small letters, digits and dashes, such as {slugify(slug)[:80] or 'my-model'!r}.",
            slug=slug,
        )
    if slug in RESERVED:
        raise InvalidInput(
            f"{slug!r} is the address of a page.", f"Choose another name, such as '{slug}-model'.", slug=slug
        )
    return slug


def _copy_vocabulary(model: LanguageModel, vocabulary: Sequence[str]) -> None:
    table = connection.ops.quote_name(VocabularyToken._meta.db_table)
    with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY {table} (model_id, token_id, text, folded) FROM STDIN") as copy,
    ):
        for token_id, text in enumerate(map(storable, vocabulary)):
            copy.write_row((model.pk, token_id, text, fold(text)))
