"""Imports: what they are registered as, and their rows, streamed into partitions that are swapped in one moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from django.db import connection, transaction

from features import partitions
from features.models import (
    Corpus,
    Dictionary,
    Document,
    LanguageModel,
    Release,
    Run,
    Tokenization,
    VocabularyToken,
)
from features.rows import (
    CONTEXT_COLUMNS,
    EXAMPLE_COLUMNS,
    STORED_FEATURE_COLUMNS,
    Chunk,
    context_chunk,
)
from features.services import runs
from features.words import fold, slugify, storable
from inference.errors import Conflict, InvalidInput, NotFound

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

PHASES = ("fetch", "read", "contexts", "examples", "features", "publish")
FAMILY = "imported"
# What `Corpus.origin` says of contexts that came with files: there is no text to build on.
ORIGIN = "import"
# Room for strings in the vocabulary of a model that is known from files alone: ids then take four bytes.
D_VOCAB = 1 << 20
SCHEMES = ("http://", "https://")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSource:
    """A dictionary as files describe it; zeros and empty texts where they say nothing."""

    source: str
    layer: int
    n_features: int
    d_in: int = 0
    hook_point: str = ""
    hook_point_out: str = ""
    architecture: str = ""
    release: str = ""
    release_name: str = ""
    release_url: str = ""


def create_import(*, place: str, model: str = "", source: str = "", user: AbstractBaseUser | None = None) -> int:
    """Queue an import of a folder, an archive or a URL; return the run's id.

    `model` is the slug of the model that the features are of, if it differs from what the files say; `source` imports
    that source alone. Raises InvalidInput and NotFound.
    """
    place = place.strip()
    if not place:
        raise InvalidInput("Nothing says what to import.", "Name a folder, an archive or a URL.")
    if not place.startswith(SCHEMES):
        path = Path(place).expanduser()
        if not path.exists():
            raise NotFound(f"There is nothing at {place}.", "Give a path on the machine of the workers.", path=place)
        place = str(path.resolve())
    params = {"place": place, "model": model, "source": source}
    return runs.create(kind=Run.Kind.IMPORT, title=f"Import {place}", phases=PHASES, params=params, user=user)


@transaction.atomic
def model_for(*, slug: str, name: str, n_layers: int) -> LanguageModel:
    """Return the model of a slug; without one, register it as known from files alone."""
    known = LanguageModel.objects.select_for_update().filter(slug=slug).first()
    if known is not None:
        if not known.path and n_layers > known.n_layers:
            known.n_layers = n_layers
            known.save(update_fields=["n_layers"])
        return known
    if not slug:
        raise InvalidInput(f"The model's name {name!r} makes no address.", "Name it with --model.", model=name)
    sizes = dict.fromkeys(("n_heads", "d_model", "d_head", "d_mlp", "context_size"), 0)
    return LanguageModel.objects.create(
        slug=slug,
        name=storable(name)[:200],
        description="Known from imported files alone: its weights are not here, and its vocabulary is their strings.",
        path="",
        family=FAMILY,
        n_layers=n_layers,
        d_vocab=D_VOCAB,
        **sizes,
    )


@transaction.atomic
def add_tokens(*, model: int, texts: Iterable[str]) -> dict[str, int]:
    """Give every text an id in the vocabulary of a model that is known from files alone; return all of its ids.

    Ids are stable: what has one keeps it. Raises InvalidInput where the vocabulary is full.
    """
    owner = LanguageModel.objects.select_for_update().get(id=model)
    known = vocabulary(model)
    new = sorted({storable(text) for text in texts} - known.keys())
    if len(known) + len(new) > owner.d_vocab:
        raise InvalidInput(
            f"{owner.slug} would have more than {owner.d_vocab:,} different tokens.",
            "These files are hardly of one tokenizer; import them under another model's name.",
            model=owner.slug,
        )
    first = len(known)
    table = connection.ops.quote_name(VocabularyToken._meta.db_table)
    with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY {table} (model_id, token_id, text, folded) FROM STDIN") as copy,
    ):
        for token_id, text in enumerate(new, start=first):
            copy.write_row((model, token_id, text, fold(text)))
    return known | {text: token_id for token_id, text in enumerate(new, start=first)}


def vocabulary(model: int) -> dict[str, int]:
    """Return the id of every text of a model's vocabulary, the lowest where several tokens have the same text."""
    rows = VocabularyToken.objects.filter(model_id=model).order_by("-token_id").values_list("text", "token_id")
    return dict(rows.iterator(chunk_size=20_000))


@transaction.atomic
def dictionary_for(*, model: int, new: NewSource) -> Dictionary:
    """Return the dictionary of a source id; without one, register it as known from files alone.

    Raises Conflict where a dictionary of that id has fewer features than the files.
    """
    known = Dictionary.objects.select_for_update().filter(model_id=model, source=new.source).first()
    if known is not None:
        if known.path and known.n_features < new.n_features:
            raise Conflict(
                f"{new.source} has {known.n_features:,} features, and the files have feature {new.n_features - 1:,}.",
                "These files are of another dictionary: import them under another model's name with --model.",
                source=new.source,
            )
        if not known.path and known.n_features < new.n_features:
            known.n_features = new.n_features
            known.save(update_fields=["n_features"])
        return known
    return Dictionary.objects.create(
        model_id=model,
        release=_release(new),
        source=new.source,
        layer=new.layer,
        hook_point=new.hook_point,
        hook_point_out=new.hook_point_out or new.hook_point,
        architecture=new.architecture[:40] or FAMILY,
        n_features=new.n_features,
        d_in=new.d_in,
        d_out=new.d_in,
        path="",
        sha256="",
        format=FAMILY,
        config={},
    )


@transaction.atomic
def store_contexts(
    *,
    corpus_slug: str,
    corpus_name: str,
    model: int,
    context_size: int,
    n_tokens: int,
    n_contexts: int,
    has_bos: bool,
    digest: str,
    chunks: Iterable[Mapping[str, Any]],
    documents: Mapping[str, int],
) -> Tokenization:
    """Store contexts and their documents, or return the tokenization that has them; `chunks` is used up either way.

    Chunks hold what `rows.context_chunk` takes, with documents numbered from 0; `documents` holds the number of each by
    name once the chunks are used up.
    """
    corpus, _ = Corpus.objects.select_for_update().get_or_create(
        slug=corpus_slug,
        defaults={
            "name": corpus_name,
            "description": "The contexts of imported files; there is no text to build on.",
            "origin": {"kind": ORIGIN},
        },
    )
    known = Tokenization.objects.filter(corpus=corpus, model_id=model, sha256=digest).first()
    if known is not None and partitions.exists(partitions.contexts_of(known.pk)):
        for _ in chunks:
            pass
        return known
    tokenization = known or Tokenization.objects.create(
        corpus=corpus,
        model_id=model,
        context_size=context_size,
        n_contexts=n_contexts,
        n_tokens=n_tokens,
        sha256=digest,
        has_bos=has_bos,
    )
    partition = partitions.contexts_of(tokenization.pk)
    first = corpus.documents.count()
    moved = ({**chunk, "document": np.asarray(chunk["document"]) + first} for chunk in chunks)
    partitions.fill(partition, CONTEXT_COLUMNS, (context_chunk(**chunk) for chunk in moved))
    new = [
        Document(
            corpus=corpus, ordinal=first + ordinal, name=storable(name), path="", split="train", sha256="", n_bytes=0
        )
        for name, ordinal in documents.items()
    ]
    Document.objects.bulk_create(new, batch_size=2000)
    partitions.attach(partition)
    return tokenization


def store_examples(*, dictionary: int, chunks: Iterable[Chunk]) -> int:
    """Write the examples of a dictionary (id) beside those that readers see; return of how many features."""
    return partitions.fill(partitions.examples_of(dictionary), EXAMPLE_COLUMNS, chunks)


def store_features(*, dictionary: int, chunks: Iterable[Chunk]) -> int:
    """Write the features of a dictionary (id) beside those that readers see; return how many."""
    return partitions.fill(partitions.features_of(dictionary), STORED_FEATURE_COLUMNS, chunks)


@transaction.atomic
def forget(*, tokenization: int) -> None:
    """Drop the contexts of an earlier import that no dictionary uses any more."""
    row = Tokenization.objects.select_for_update().filter(id=tokenization).first()
    if row is None or row.dictionaries.exists() or row.corpus.origin.get("kind") != ORIGIN:
        return
    with partitions.short_locks():
        partitions.drop(partitions.contexts_of(tokenization))
    row.delete()


def corpus_slug(model: str, source: str) -> str:
    """Return the slug of the corpus that holds what is imported for a source."""
    return slugify(f"imported {model} {source}")[:80].strip("-")


def _release(new: NewSource) -> Release | None:
    slug = slugify(new.release)[:80]
    if not slug:
        return None
    defaults = {"name": storable(new.release_name or new.release)[:200], "url": new.release_url[:200]}
    return Release.objects.get_or_create(slug=slug, defaults=defaults)[0]
