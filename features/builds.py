"""Builds: from a stored run to dashboards that pages read. Needs torch: only workers and commands import it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import close_old_connections, connection

from features import services
from features.jobs import Reporter, Watcher, carry_out, silent
from features.models import Dictionary, Document, Run
from features.services.explanations import MethodExplanation
from inference.dashboards import run_pass
from inference.dashboards.corpus import Cancelled
from inference.dashboards.results import DocumentRef, PassResult, Progress
from inference.dictionaries import load_dictionary
from inference.errors import Conflict, NotFound
from inference.explanations import explain
from inference.language_models import LanguageModel, load_language_model

# What a killed build loses at most.
SHARD_TOKENS = 131_072


def run_build(run_id: int, *, watch: Watcher = silent) -> None:
    """Carry a build out, from the shards that an earlier attempt finished (features.jobs)."""
    carry_out(run_id, _build, watch=watch)


def workdir(run: Run) -> Path:
    """Return where a run keeps its shards."""
    return Path(settings.FACET_BUILDS) / f"run-{run.pk}"


def _build(run: Run, reporter: Reporter) -> None:
    dictionaries = list(run.dictionaries.select_related("model").order_by("layer", "source"))
    if not dictionaries or run.corpus is None:
        raise NotFound("What this run was to build is gone.", "Start another build.")
    model = load_model_of(dictionaries[0].model)
    loaded = {row.source: load_dictionary_of(row, model) for row in dictionaries}
    folder = workdir(run)
    folder.mkdir(parents=True, exist_ok=True)
    result = run_pass(
        model,
        loaded,
        [
            DocumentRef(ordinal=row.ordinal, name=row.name, path=row.path, split=row.split)
            for row in Document.objects.filter(corpus=run.corpus).order_by("ordinal")
        ],
        workdir=folder,
        n_tokens=run.params["n_tokens"],
        context_size=run.params["context_size"],
        shard_tokens=run.params.get("shard_tokens") or SHARD_TOKENS,
        progress=reporter,
        should_stop=reporter.should_stop,
    )
    _say_what_was_read(result, reporter)
    _store(run, dictionaries, model, result, reporter)
    shutil.rmtree(folder, ignore_errors=True)


def _store(
    run: Run, dictionaries: list[Dictionary], model: LanguageModel, result: PassResult, reporter: Reporter
) -> None:
    # The pass may have taken longer than a connection may live.
    if not connection.in_atomic_block:
        close_old_connections()
    vocabulary = model.vocabulary()
    explanations: dict[int, dict[str, list[MethodExplanation]]] = {}
    for number, row in enumerate(dictionaries):
        reporter(Progress(phase="explain", done=number, total=len(dictionaries), unit="dictionaries"))
        explanations[row.pk] = by_method(explain(result.dashboards[row.source], vocabulary, result.contexts))
    reporter(Progress(phase="explain", done=len(dictionaries), total=len(dictionaries), unit="dictionaries"))

    def stored(done: int, total: int) -> None:
        reporter(Progress(phase="store", done=done, total=total, unit="rows"))
        if reporter.should_stop():
            raise Cancelled

    services.dashboards.attach(
        corpus=run.corpus_id,
        model=dictionaries[0].model_id,
        context_size=run.params["context_size"],
        contexts=result.contexts,
        dashboards={row.pk: result.dashboards[row.source] for row in dictionaries},
        explanations=explanations,
        facts={
            "run": run.pk,
            "provenance": dict(result.provenance),
            "measurements": dict(result.measurements),
        },
        progress=stored,
    )
    services.runs.record(run=run.pk, result={"links": [f"/{row.model.slug}/{row.source}" for row in dictionaries]})


def by_method(explanations: list[Any]) -> dict[str, list[MethodExplanation]]:
    """Return the explanations of features 0, 1, ... by method, without empty ones."""
    methods: dict[str, list[MethodExplanation]] = {}
    for index, explanation in enumerate(explanations):
        if explanation is not None and explanation.text:
            methods.setdefault(explanation.method, []).append(
                MethodExplanation(index, explanation.text, dict(explanation.evidence))
            )
    return methods


def load_model_of(row: Any) -> LanguageModel:
    """Load a registered model; raise Conflict if its weights are not those that were added."""
    # The digest of a local folder is recorded as its revision; only a hub knows commits by theirs.
    revision = row.revision if row.revision and row.revision != row.sha256 else None
    model = load_language_model(row.path, name=row.slug, revision=revision, device=settings.FACET_DEVICE or None)
    if row.sha256 and model.sha256 != row.sha256:
        raise Conflict(
            f"The weights of {row.slug} at {row.path} are not those that were added.",
            "Restore them, or add the new ones as another model.",
            model=row.slug,
        )
    return model


def load_dictionary_of(row: Dictionary, model: LanguageModel) -> Any:
    """Load a registered dictionary beside its model; raise Conflict if its weights are not those that were added."""
    dictionary = load_dictionary(row.path, device=model.device)
    if dictionary.config.sha256 != row.sha256:
        raise Conflict(
            f"The weights of {row.source} at {row.path} are not those that were added.",
            "Restore them, or add the new ones under another source id.",
            source=row.source,
        )
    return dictionary


def _say_what_was_read(result: PassResult, reporter: Reporter) -> None:
    measured = result.measurements
    reporter.say(
        f"Read {result.contexts.n_tokens:,} tokens in {len(result.contexts):,} contexts,"
        f" {measured['tokens_per_second']:,.0f} a second; {measured['resumed_shards']} of {measured['shards']} shards"
        " were there already."
    )
    if result.skipped:
        reasons = ", ".join(sorted({document.reason for document in result.skipped}))
        reporter.say(f"{len(result.skipped)} documents gave no context ({reasons}), such as {result.skipped[0].name}.")
