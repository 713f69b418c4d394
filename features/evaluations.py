"""Evaluations: from a stored run to figures that pages show. Needs torch: only workers and commands import it."""

from __future__ import annotations

from dataclasses import asdict

from django.db import close_old_connections, connection, transaction

from features import services
from features.builds import documents_of, load_dictionary_of, load_model_of
from features.jobs import Reporter, Watcher, carry_out, silent
from features.models import Corpus, Run
from features.services.evaluations import ALL
from inference.dashboards.corpus import Cancelled, read_contexts
from inference.dashboards.results import DocumentRef
from inference.errors import NotFound
from inference.evaluation import evaluate


def run_evaluation(run_id: int, *, watch: Watcher = silent) -> None:
    """Measure the dictionaries of a run and store their figures together (features.jobs).

    What was measured is stored in one transaction at the end, so a run that is taken up again begins anew and gives the
    same figures.
    """
    carry_out(run_id, _evaluate, watch=watch)


def _evaluate(run: Run, reporter: Reporter) -> None:
    rows = list(run.dictionaries.select_related("model").order_by("layer", "source"))
    if not rows or run.corpus is None:
        raise NotFound("What this run was to evaluate is gone.", "Start another evaluation.")
    split, n_tokens, context_size = (run.params[name] for name in ("split", "n_tokens", "context_size"))
    reporter.at("load", 0, len(rows), "dictionaries")
    model = load_model_of(rows)
    model.check_causal()
    loaded = {}
    for row in rows:
        loaded[row.source] = load_dictionary_of(row, model)
        reporter.at("load", len(loaded), len(rows), "dictionaries")
    contexts, _ = read_contexts(
        model,
        _documents(run.corpus, split),
        n_tokens=n_tokens,
        context_size=context_size,
        prepend_bos=all(dictionary.config.prepend_bos for dictionary in loaded.values()),
        progress=reporter,
        should_stop=reporter.should_stop,
    )
    measured = evaluate(
        model, loaded, contexts, progress=lambda done, total: reporter.at("evaluate", done, total, "contexts")
    )
    # The measurement may have taken longer than a connection may live.
    if not connection.in_atomic_block:
        close_old_connections()
    if reporter.should_stop():
        raise Cancelled
    facts = {
        "corpus": run.corpus.name,
        "split": split,
        "context_size": min(context_size, model.context_size),
        "precision": str(model.dtype).removeprefix("torch."),
        "excluded": "BOS and padding" if contexts.has_bos else "padding",
    }
    with transaction.atomic():
        for row in rows:
            services.evaluations.store(dictionary=row.pk, figures=asdict(measured[row.source]) | facts)
        links = [f"/{row.model.slug}/{row.source}#fidelity" for row in rows]
        services.runs.record(run=run.pk, result={"links": links})
    reporter.say(f"Measured on {contexts.n_tokens:,} tokens in {len(contexts):,} contexts.")


def _documents(corpus: Corpus, split: str) -> list[DocumentRef]:
    return [document for document in documents_of(corpus) if split in (ALL, document.split)]
