"""Evaluations: from registered dictionaries and text to stored figures. Needs torch: only commands import it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict

from django.db import close_old_connections, connection

from features import services
from features.builds import load_dictionary_of, load_model_of
from features.models import Dictionary, Document
from features.services.corpora import chosen_corpus
from features.services.runs import CONTEXT_SIZE, MAX_TOKENS
from inference.dashboards.corpus import SHORTEST_WINDOW, read_contexts
from inference.dashboards.results import SPLITS, DocumentRef
from inference.errors import InvalidInput, NotFound
from inference.evaluation import evaluate

N_TOKENS = 100_000
ALL = "all"


def run_evaluation(
    dictionaries: Sequence[int],
    *,
    corpus: str = "",
    n_tokens: int = N_TOKENS,
    split: str = "test",
    context_size: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Measure dictionaries (ids) of one model on a corpus (its slug) and store the figures.

    `split` is test, train or all. Raises InvalidInput, NotFound, NothingToRead, ModelWithoutHead and what loading does.
    """
    rows = list(Dictionary.objects.filter(id__in=dictionaries).select_related("model").order_by("layer", "source"))
    if not rows:
        raise NotFound("There is no dictionary to evaluate.", "Choose at least one.", ids=list(dictionaries))
    if len({row.model_id for row in rows}) > 1:
        raise InvalidInput("The dictionaries belong to several models.", "Evaluate those of one model at a time.")
    if not SHORTEST_WINDOW <= n_tokens <= MAX_TOKENS:
        raise InvalidInput(
            f"An evaluation cannot read {n_tokens:,} tokens.", f"Give {SHORTEST_WINDOW} to {MAX_TOKENS:,}."
        )
    text = chosen_corpus(corpus)
    documents = _documents(text.pk, text.slug, split)
    model = load_model_of(rows[0].model)
    model.check_causal()
    loaded = {row.source: load_dictionary_of(row, model) for row in rows}
    contexts, _ = read_contexts(
        model,
        documents,
        n_tokens=n_tokens,
        context_size=context_size or CONTEXT_SIZE,
        prepend_bos=all(dictionary.config.prepend_bos for dictionary in loaded.values()),
    )
    measured = evaluate(model, loaded, contexts, progress=progress)
    # The measurement may have taken longer than a connection may live.
    if not connection.in_atomic_block:
        close_old_connections()
    facts = {
        "corpus": text.name,
        "split": split,
        "context_size": min(context_size or CONTEXT_SIZE, model.context_size),
        "precision": str(model.dtype).removeprefix("torch."),
        "excluded": "BOS and padding" if contexts.has_bos else "padding",
    }
    for row in rows:
        services.fidelity.store(dictionary=row.pk, figures=asdict(measured[row.source]) | facts)


def _documents(corpus: int, slug: str, split: str) -> list[DocumentRef]:
    if split not in (*SPLITS, ALL):
        raise InvalidInput(f"There is no split {split!r}.", f"Use one of {', '.join((*SPLITS, ALL))}.", split=split)
    rows = Document.objects.filter(corpus=corpus).order_by("ordinal")
    if split != ALL:
        rows = rows.filter(split=split)
    documents = [DocumentRef(ordinal=row.ordinal, name=row.name, path=row.path, split=row.split) for row in rows]
    if not documents:
        raise NotFound(
            f"The corpus {slug!r} has no document in its {split} split.",
            "Read the others with --split all, or add a larger corpus.",
            corpus=slug,
        )
    return documents
