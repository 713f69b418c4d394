"""Builds: from a stored run to dashboards that pages read. Needs torch: only workers and commands import it.

Any number of processes may work on a build. The first reads the corpus and plans the shards; each takes shards whose
lock it gets (features.holds) as long as there are some; the one that finds all made adds them up and stores the result.
Who comes later, or again after a crash, goes on from what is there.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import structlog
from django.conf import settings
from django.db import close_old_connections, connection

from features import services
from features.holds import Parts
from features.jobs import REPORT_SECONDS, Crew, Reporter, Watcher, carry_out, silent
from features.keyless import ExplanationFile
from features.models import Dictionary, Document, Run
from features.selectors.models import companions_of
from features.services.shards import ShardFailed
from inference.dashboards.budget import SHARD_TOKENS
from inference.dashboards.corpus import Cancelled
from inference.dashboards.partials import joined, remove, trim
from inference.dashboards.passes import Pass
from inference.dashboards.results import DocumentRef, Progress
from inference.dictionaries import load_dictionary
from inference.errors import Conflict, FacetError, InvalidInput, NotFound
from inference.language_models import LanguageModel, load_language_model

log = structlog.get_logger(__name__)

# Corpora that stay tokenised on disk.
KEPT_CONTEXTS = 8
# Documents without a context that a run lists.
LISTED = 1000


def run_build(run_id: int, *, watch: Watcher = silent, crew: Crew | None = None) -> None:
    """Take part in a build until there is nothing to do for this process (features.jobs)."""

    def job(run: Run, reporter: Reporter) -> bool:
        with Parts(run.pk) as parts:
            return _Participant(run, reporter, parts, crew or Crew()).take_part()

    carry_out(run_id, job, watch=watch)


def workdir(run: Run) -> str:
    """Return where a run keeps its shards: a folder, or an fsspec URL."""
    return joined(settings.FACET_BUILDS, f"run-{run.pk}")


def documents_of(corpus: Any) -> list[DocumentRef]:
    """Return the documents of a corpus, in order."""
    columns = ("ordinal", "name", "path", "split", "sha256", "start", "n_bytes", "field")
    rows = Document.objects.filter(corpus=corpus).order_by("ordinal").values_list(*columns)
    return [DocumentRef(**dict(zip(columns, row, strict=True))) for row in rows.iterator(chunk_size=5000)]


class _Participant:
    """This process's part in a build."""

    def __init__(self, run: Run, reporter: Reporter, parts: Parts, crew: Crew) -> None:
        self.run, self.reporter, self.parts, self.crew = run, reporter, parts, crew
        self.started = time.perf_counter()

    def take_part(self) -> bool:
        """Do what there is to do; return whether the run is over."""
        if services.shards.fingerprint(self.run.pk) and not self._has_work():
            return False
        dictionaries = list(self.run.dictionaries.select_related("model").order_by("layer", "source"))
        if not dictionaries or self.run.corpus is None:
            raise NotFound("What this run was to build is gone.", "Start another build.")
        running = self._load(dictionaries)
        if running is None or not self._prepare(running):
            return False
        while (number := self._next()) is not None:
            self._make(running, number)
        if not services.shards.all_done(self.run.pk):
            if not self.parts.others():
                self.crew.invite(1)
            return False
        with self.parts.conducting() as conducting:
            if not conducting or not Run.objects.filter(id=self.run.pk, state=Run.State.RUNNING).exists():
                return False
            _Finish(self.run, dictionaries, running, self.reporter, self.started).store()
        return True

    def _load(self, dictionaries: list[Dictionary]) -> Pass | None:
        """Load what a pass needs; None where that fails here alone, and others go on."""
        try:
            model = load_model_of(dictionaries)
            params = self.run.params
            return Pass(
                model,
                {row.source: load_dictionary_of(row, model) for row in dictionaries},
                documents_of(self.run.corpus),
                workdir=workdir(self.run),
                contexts_dir=joined(settings.FACET_BUILDS, "contexts"),
                n_tokens=params["n_tokens"],
                context_size=params["context_size"],
                shard_tokens=params.get("shard_tokens") or SHARD_TOKENS,
                memory=params.get("memory") or settings.FACET_BUILD_MEMORY,
            )
        except FacetError as error:
            if not self.parts.others():
                raise
            self.reporter.say(f"{self.crew.name} cannot take part: {error.cause}")
            return None

    def _prepare(self, running: Pass) -> bool:
        """Read the corpus and plan the shards, unless that was done; tell whether this process may make some."""
        with self.parts.conducting() as conducting:
            if conducting:
                running.read(self.reporter, self.reporter.should_stop)
                planned = services.shards.fingerprint(self.run.pk)
                if not (planned and self.parts.others()):
                    self._plan(running)
            elif not running.find():
                return False
        planned = services.shards.fingerprint(self.run.pk)
        if planned and planned != running.fingerprint:
            self.reporter.say(f"{self.crew.name} would compute other digits (another device or version): it stays out.")
        return planned == running.fingerprint

    def _plan(self, running: Pass) -> None:
        index = running.index
        made = {number for number in range(running.n_shards) if running.is_made(number)}
        n_tokens = [index.text_tokens(number + 1) - index.text_tokens(number) for number in range(running.n_shards)]
        services.shards.plan(run=self.run.pk, fingerprint=running.fingerprint, n_tokens=n_tokens, made=made)
        self._say_what_was_read(running, len(made))
        wanted = min(len(n_tokens) - len(made), len(set(self.crew.workers()) - {self.crew.name}))
        if wanted > 0:
            self.crew.invite(wanted)

    def _say_what_was_read(self, running: Pass, n_made: int) -> None:
        index = running.index
        self.reporter.say(
            f"Read {index.n_tokens:,} tokens in {index.n_contexts:,} contexts; {n_made} of {running.n_shards} shards"
            " were there already."
        )
        if index.skipped:
            reasons = Counter(document.reason for document in index.skipped)
            said = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
            documents = "document" if len(index.skipped) == 1 else "documents"
            self.reporter.say(f"{len(index.skipped):,} {documents} gave no context: {said}.")

    def _has_work(self) -> bool:
        return services.shards.all_done(self.run.pk) or any(self._may_take(row) for row in self._open())

    def _open(self) -> list[Any]:
        return services.shards.open_shards(self.run.pk)

    def _may_take(self, row: Any) -> bool:
        return not services.shards.is_left(row, self.crew.name, self.crew.workers() if row.failures else ())

    def _next(self) -> int | None:
        """Take a shard up and return its number; None where there is none for this process. Raises Cancelled."""
        if self.reporter.should_stop():
            raise Cancelled
        for row in self._open():
            if self._may_take(row) and self.parts.take(row.number):
                try:
                    if services.shards.begin(run=self.run.pk, number=row.number, worker=self.crew.name):
                        return row.number
                except ShardFailed:
                    self.parts.give_back(row.number)
                    raise
                self.parts.give_back(row.number)
        return None

    def _make(self, running: Pass, number: int) -> None:
        """Make a shard; what goes wrong is recorded for another attempt, unless no attempt could do better."""
        message = f"shard {number + 1} of {running.n_shards}"
        reported = 0.0

        def on_tokens(done: int) -> None:
            nonlocal reported
            if (now := time.monotonic()) - reported >= REPORT_SECONDS:
                reported = now
                total = services.shards.report(run=self.run.pk, number=number, done=done)
                self.reporter(running.encoding(total, message))

        try:
            if not running.is_made(number):
                running.make(number, on_tokens, self.reporter.should_stop)
        except Cancelled:
            services.shards.put_back(run=self.run.pk, number=number)
            raise
        except InvalidInput:
            raise
        except Exception as error:
            log.exception("A shard failed.", run=self.run.pk, shard=number)
            cause = error.cause if isinstance(error, FacetError) else f"{type(error).__name__}: {error}"
            services.shards.fail(run=self.run.pk, number=number, worker=self.crew.name, error=cause)
            self.reporter.say(f"Shard {number + 1} failed on {self.crew.name}, and is tried again: {cause}")
        else:
            services.shards.finish(run=self.run.pk, number=number)
        finally:
            self.parts.give_back(number)
        total = services.shards.report(run=self.run.pk, number=number, done=self._done_of(number))
        self.reporter(running.encoding(total, message))

    def _done_of(self, number: int) -> int:
        return self.run.shards.values_list("done", flat=True).get(number=number)


class _Finish:
    """Adding the shards up and storing what came out, one dictionary at a time; readers see all at once."""

    def __init__(
        self, run: Run, dictionaries: list[Dictionary], running: Pass, reporter: Reporter, started: float
    ) -> None:
        self.run, self.dictionaries, self.running, self.reporter = run, dictionaries, running, reporter
        self.started = started

    def store(self) -> None:
        running, rows = self.running, {row.source: row for row in self.dictionaries}
        contexts, vocabulary = running.contexts(), running.model.vocabulary()
        explanations, stats = {}, {}
        for dashboard in running.finish(contexts, self.reporter, self.reporter.should_stop):
            # What came before may have taken longer than a connection may live.
            if not connection.in_atomic_block:
                close_old_connections()
            row = rows[dashboard.source]
            with running.clock.stage("explain"):
                explanations[row.pk] = ExplanationFile.of(dashboard, vocabulary, contexts)
            with running.clock.stage("store"):
                stats[row.pk] = services.dashboards.fill(dictionary=row.pk, dashboard=dashboard, contexts=contexts)
            if self.reporter.should_stop():
                raise Cancelled
        self._at("store", 0)
        with running.clock.stage("store"):
            tokenization = services.dashboards.store_contexts(
                corpus=self.run.corpus_id,
                model=self.dictionaries[0].model_id,
                context_size=self.run.params["context_size"],
                contexts=contexts,
            )
        self._at("store", 1)
        measurements = running.measurements(time.perf_counter() - self.started)
        makers = list(self.run.shards.values_list("worker", flat=True))
        measurements |= {"resumed_shards": makers.count(""), "workers": len(set(makers) - {""}) or 1}
        facts = {"run": self.run.pk, "provenance": running.provenance(), "measurements": measurements}
        services.dashboards.publish(
            tokenization=tokenization,
            stats={dictionary: figures | facts for dictionary, figures in stats.items()},
            explanations=explanations,
            has_token_features=True,
        )
        self._record()
        self._at("store", 2)
        remove(workdir(self.run))
        trim(joined(settings.FACET_BUILDS, "contexts"), KEPT_CONTEXTS)

    def _at(self, phase: str, done: int) -> None:
        self.reporter(Progress(phase=phase, done=done, total=2, unit="steps"))
        if self.reporter.should_stop():
            raise Cancelled

    def _record(self) -> None:
        skipped = self.running.index.skipped
        result = {
            "links": [f"/{row.model.slug}/{row.source}" for row in self.dictionaries],
            "n_skipped": len(skipped),
            "skipped": [{"ordinal": document.ordinal, "reason": document.reason} for document in skipped[:LISTED]],
        }
        services.runs.record(run=self.run.pk, result=result)


def load_model_of(dictionaries: Sequence[Dictionary]) -> LanguageModel:
    """Load the registered model of dictionaries and its companions; raise Conflict if weights are not those added."""
    row = dictionaries[0].model
    hook_points = (name for dictionary in dictionaries for name in (dictionary.hook_point, dictionary.hook_point_out))
    companions = companions_of(row, hook_points)
    return replace(_load(row), companions={slug: _load(companion) for slug, companion in companions.items()})


def _load(row: Any) -> LanguageModel:
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
    dictionary = load_dictionary(row.path, device=model.device, model=model)
    if dictionary.config.sha256 != row.sha256:
        raise Conflict(
            f"The weights of {row.source} at {row.path} are not those that were added.",
            "Restore them, or add the new ones under another source id.",
            source=row.source,
        )
    return dictionary
