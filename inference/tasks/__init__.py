"""What Celery runs: load by id, call, publish. The one package of `inference` that knows Django and `features`.

Live requests (queue `engine`) are acknowledged before they run: nobody waits for one whose worker died. Runs (queue
`batch`) are acknowledged after they ran and are safe to deliver twice: a run that another process holds is left alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from celery import shared_task
from django.conf import settings
from django.db import InterfaceError, OperationalError

from features.holds import at_work
from features.models import Dictionary, Feature, LanguageModel
from features.selectors.models import companions_of
from inference import streams
from inference.errors import Conflict, FacetError, NotFound, Unavailable
from inference.serving import DictionarySpec, Engine, ModelSpec, Scales
from inference.tasks import process
from inference.tasks.runs import crew_of, working

QUEUE = "engine"
END_SECONDS = 60.0

log = logging.getLogger(__name__)


@shared_task(name="inference.tasks.prompt_features")
def prompt_features(job: str, payload: dict[str, Any]) -> None:
    """Publish the ranked features of a text."""

    def answer(publisher: streams.Publisher) -> None:
        model, dictionaries = _specs(payload["model"], payload["sources"])
        controls = {name: payload[name] for name in ("text", "rank", "density", "positions", "top", "truncate", "chat")}
        publisher.publish("result", engine().prompt_features(model, dictionaries, **controls))

    _answer(job, answer)


@shared_task(name="inference.tasks.feature_activations")
def feature_activations(job: str, payload: dict[str, Any]) -> None:
    """Publish the activations of chosen features of one dictionary on a text."""

    def answer(publisher: streams.Publisher) -> None:
        model, [dictionary] = _specs(payload["model"], [payload["source"]])
        controls = {name: payload[name] for name in ("indices", "text", "truncate")}
        publisher.publish("result", engine().feature_activations(model, dictionary, **controls))

    _answer(job, answer)


@shared_task(name="inference.tasks.source_attributions")
def source_attributions(job: str, payload: dict[str, Any]) -> None:
    """Publish what the tokens of a text add, through attention, to a feature."""

    def answer(publisher: streams.Publisher) -> None:
        model, [dictionary] = _specs(payload["model"], [payload["source"]])
        controls = {name: payload[name] for name in ("index", "text", "positions", "truncate", "chat")}
        publisher.publish("result", engine().source_attributions(model, dictionary, **controls))

    _answer(job, answer)


@shared_task(name="inference.tasks.generate")
def generate(job: str, payload: dict[str, Any]) -> None:
    """Publish a default and a steered text, token by token."""

    def answer(publisher: streams.Publisher) -> None:
        model, dictionaries = _specs(payload["model"], sorted({edit["source"] for edit in payload["edits"]}))
        names = ("text", "edits", "n_tokens", "temperature", "top_p", "seed", "truncate")
        controls = {name: payload[name] for name in names}
        by_source = {dictionary.source: dictionary for dictionary in dictionaries}
        for event, data in engine().generate(model, by_source, **controls, stop_reason=publisher.stop_reason):
            publisher.publish(event, data)

    _answer(job, answer)


@shared_task(name="inference.tasks.run", acks_late=True, reject_on_worker_lost=True)
def run(run_id: int) -> None:
    """Carry a run out, take part in one that is shared, or leave it to the process that holds it."""
    from features.jobs import work

    with working(), at_work(run_id) as held:
        if held:
            work(run_id, crew=crew_of(run_id))
        else:
            log.info("Run %s is held by another process.", run_id)


@cache
def engine() -> Engine:
    """Return this process's engine."""
    return Engine(
        worker=process.name(),
        capacity_bytes=settings.FACET_ENGINE_BYTES,
        device=settings.FACET_DEVICE or None,
        dtype=settings.FACET_DTYPE,
    )


def warm_up() -> None:
    """Load the first model and its dictionaries, so that the first visitor does not wait for them."""
    loadable = Dictionary.objects.exclude(path="").exclude(model__path="").order_by("model_id", "id")
    first = loadable.values_list("model__slug", flat=True).first()
    if first is None:
        return
    sources = loadable.filter(model__slug=first).order_by("id").values_list("source", flat=True)[:8]
    model, dictionaries = _specs(first, list(sources))
    controls = {"rank": "max", "density": None, "positions": None, "top": 1, "truncate": True}
    engine().prompt_features(model, dictionaries, text="def warm_up():", **controls)


def _answer(job: str, answer: Callable[[streams.Publisher], None]) -> None:
    """Publish `started`, the answer's events, or the error with which it ends; an abandoned job is not begun."""
    client = process.valkey()
    publisher = streams.Publisher(client, job)
    client.zrem(streams.waiting_key(QUEUE), job)
    if reason := publisher.stop_reason():
        publisher.publish("error", Conflict(f"The request was {reason} before it began.", "Run it again.").as_dict())
        return
    publisher.publish("started", {"worker": process.name()})
    try:
        with _phrased():
            answer(publisher)
    except FacetError as error:
        _publish_end(publisher, error)
    except Exception as error:
        message = str(error).strip().partition("\n")[0] or "no message"
        failure = FacetError(
            f"The engine failed: {type(error).__name__}: {message[:300]}",
            "Try again; the log of the engine worker has the details under the id of this request.",
            job=job,
        )
        failure.code = "engine-failed"
        _publish_end(publisher, failure)
        raise


def _publish_end(publisher: streams.Publisher, error: FacetError) -> None:
    """Publish the error with which a job ends; wait for Valkey if need be, since readers wait for this."""
    deadline = time.monotonic() + END_SECONDS
    while True:
        try:
            publisher.publish("error", error.as_dict())
        except streams.GONE:
            if time.monotonic() > deadline:
                raise
            time.sleep(1.0)
        else:
            return


@contextmanager
def _phrased() -> Iterator[None]:
    """Turn what the surroundings do to a task into errors that say so."""
    import torch

    try:
        yield
    except (OperationalError, InterfaceError) as error:
        raise Unavailable("Postgres does not answer the engine.", "Try again in a moment.") from error
    except streams.GONE as error:
        gone = Unavailable("Valkey went away while the engine was at work on this request.", "Run it again.")
        gone.code = "valkey-gone"
        raise gone from error
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise Unavailable(
            "The engine ran out of memory.", "Use fewer dictionaries or a shorter text, or lower FACET_ENGINE_BYTES."
        ) from error


def _specs(model: str, sources: Sequence[str]) -> tuple[ModelSpec, list[DictionarySpec]]:
    """Look a model and its sources up, in the order given."""
    rows = Dictionary.objects.filter(model__slug=model, source__in=sources).select_related("model")
    found = {row.source: row for row in rows}
    if missing := [source for source in sources if source not in found]:
        raise NotFound(f"{model}/{missing[0]} is not there any more.", "Reload the page and choose another source.")
    of_model = found[sources[0]].model
    companions = companions_of(of_model, (name for row in rows for name in (row.hook_point, row.hook_point_out)))
    return (
        _model_spec(of_model, companions=tuple(map(_model_spec, companions.values()))),
        [_dictionary_spec(found[source]) for source in sources],
    )


def _model_spec(row: LanguageModel, *, companions: tuple[ModelSpec, ...] = ()) -> ModelSpec:
    # The digest of a local folder is recorded as its revision; only a hub knows commits by theirs.
    revision = row.revision if row.revision and row.revision != row.sha256 else None
    return ModelSpec(slug=row.slug, path=row.path, revision=revision, sha256=row.sha256, companions=companions)


def _dictionary_spec(row: Dictionary) -> DictionarySpec:
    scales = None
    if row.built_at is not None:
        scales = engine().held.get(("scales", row.id, row.built_at), lambda: _scales(row))
    return DictionarySpec(source=row.source, path=row.path, sha256=row.sha256, scales=scales)


def _scales(row: Dictionary) -> Scales:
    columns = Feature.objects.filter(dictionary_id=row.id).values_list("index", "maximum", "firing_count")
    maxima, densities = np.zeros(row.n_features, np.float32), np.zeros(row.n_features, np.float32)
    for index, maximum, firing_count in columns.iterator(chunk_size=20_000):
        maxima[index], densities[index] = maximum, firing_count
    return Scales(maxima=maxima, densities=densities / max(1, row.stats.get("n_tokens") or 1))
