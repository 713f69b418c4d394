"""Measuring how faithful dictionaries are: runs that do it, and the figures that they store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from features.models import Corpus, Dictionary, Document, Run
from features.selectors.suggestions import no_weights
from features.services import runs
from features.services.corpora import chosen_corpus
from inference.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

PHASES = ("load", "read", "evaluate")
N_TOKENS = 100_000
FEWEST_TOKENS = 16
ALL = "all"
SPLITS = (*Document.Split.values, ALL)


@transaction.atomic
def create(
    *,
    dictionaries: Sequence[int],
    corpus: str = "",
    n_tokens: int = N_TOKENS,
    split: str = Document.Split.TEST,
    context_size: int | None = None,
    user: AbstractBaseUser | None = None,
) -> int:
    """Queue a measurement of dictionaries (ids) of one model on a corpus (its slug); return the run's id.

    `split` is test, train or all. Without a corpus, the only one there is serves. A dictionary that is one term of a
    sum brings the other terms that the model has. Raises InvalidInput, NotFound, and Conflict where one of the
    dictionaries is being measured already.
    """
    rows = _locked(Q(id__in=dictionaries))
    if not rows or len(rows) < len(set(dictionaries)):
        raise NotFound("A dictionary to evaluate is not there.", "Choose at least one.", ids=list(dictionaries))
    for row in rows:
        if not row.path:
            raise no_weights(row.model.slug, row.source)
    model = rows[0].model
    if any(row.model_id != model.pk for row in rows):
        raise InvalidInput("The dictionaries belong to several models.", "Evaluate those of one model at a time.")
    if sets := {row.path.rpartition("#")[0] for row in rows if row.config.get("is_summand")}:
        others = reduce(or_, (Q(path__startswith=f"{path}#") for path in sets))
        rows = _locked(Q(id__in=dictionaries) | Q(model=model) & others)
    if not FEWEST_TOKENS <= n_tokens <= runs.MAX_TOKENS:
        raise InvalidInput(
            f"An evaluation cannot read {n_tokens:,} tokens.", f"Give {FEWEST_TOKENS} to {runs.MAX_TOKENS:,}."
        )
    if context_size is not None and not FEWEST_TOKENS < context_size <= model.context_size:
        raise InvalidInput(
            f"Contexts of {context_size} tokens do not suit {model.slug}.",
            f"Use {FEWEST_TOKENS + 1} to {model.context_size}.",
        )
    text = chosen_corpus(corpus)
    _check_split(text, split)
    sources = ", ".join(row.source for row in rows)
    return runs.create(
        kind=Run.Kind.EVALUATION,
        title=f"Evaluate {model.slug}: {sources}",
        phases=PHASES,
        params={
            "n_tokens": n_tokens,
            "split": split,
            "context_size": min(context_size or runs.CONTEXT_SIZE, model.context_size),
        },
        corpus=text,
        dictionaries=[row.pk for row in rows],
        user=user,
    )


@transaction.atomic
def store(*, dictionary: int, figures: Mapping[str, Any]) -> None:
    """Store figures (JSON-ready; the fields of fidelity.Fidelity) in the place of older ones, with the time of now.

    Raises NotFound for a dictionary that was removed meanwhile.
    """
    row = Dictionary.objects.select_for_update().filter(id=dictionary).first()
    if row is None:
        raise NotFound("The dictionary is not there any more.", "Add it again.", dictionary=dictionary)
    row.stats = {**row.stats, "fidelity": {**figures, "measured_at": timezone.now().isoformat()}}
    row.save(update_fields=["stats"])


def _locked(condition: Q) -> list[Dictionary]:
    rows = Dictionary.objects.select_for_update(of=("self",)).filter(condition)
    return list(rows.select_related("model").order_by("layer", "source"))


def _check_split(corpus: Corpus, split: str) -> None:
    if split not in SPLITS:
        raise InvalidInput(f"There is no split {split[:40]!r}.", f"Use one of {', '.join(SPLITS)}.", split=split)
    documents = Document.objects.filter(corpus=corpus)
    if split != ALL and not documents.filter(split=split).exists():
        raise NotFound(
            f"The corpus {corpus.slug!r} has no document in its {split} split.",
            f"Read the others with the split {ALL!r}, or add a larger corpus.",
            corpus=corpus.slug,
        )
