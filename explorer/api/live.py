"""What the engine computes on request: activations, ranked features of a prompt, steered text."""

from __future__ import annotations

from django.http import HttpRequest
from ninja import Path, Router, Status

from explorer import asks, live, tracing
from explorer.api import schemas
from explorer.live_queries import EditQuery, PromptQuery, SteerQuery
from explorer.live_values import EngineStatus, PromptResult, SteerJob, SteerResult, TestedText, TracedText

router = Router(tags=["live"])


@router.post("/activations", response=list[TestedText], operation_id="test_activations")
def activations(request: HttpRequest, body: schemas.ActivationsIn) -> list[TestedText]:
    """Return the activations of chosen features on a text, one value per token."""
    tested = asks.test_texts(
        model=body.model, source=body.source, indices=body.indices, text=body.text, truncate=body.truncate
    )
    return list(tested)


@router.post("/attributions", response=TracedText, operation_id="source_attributions")
def attributions(request: HttpRequest, body: schemas.AttributionsIn) -> TracedText:
    """Return what each token of a text adds, through attention, to a feature of a dictionary of attention's outputs.

    At each destination pre_activation = total + bias + remainder, where total sums the sources.
    """
    return tracing.trace(
        model=body.model,
        source=body.source,
        index=body.index,
        text=body.text,
        positions=None if body.positions is None else sorted(set(body.positions)),
        truncate=body.truncate,
        chat=body.chat,
    )


@router.post("/prompt", response=PromptResult, operation_id="prompt_features")
def prompt(request: HttpRequest, body: schemas.PromptIn) -> PromptResult:
    """Return the features that fire in a text, ranked, of one or several sources in one pass of the model."""
    query = PromptQuery(
        model=body.model,
        sources=tuple(dict.fromkeys(body.sources)),
        text=body.text,
        rank=body.rank,
        density=body.density,
        at=body.at,
        top=body.top,
        truncate=body.truncate,
        chat=body.chat,
    )
    query.check()
    return asks.prompt_features(query)


@router.post("/steer", response={200: SteerResult, 202: SteerJob}, operation_id="steer")
def steer(request: HttpRequest, body: schemas.SteerIn) -> Status[SteerResult | SteerJob]:
    """Generate a default and a steered text: wait for both, or follow the events at `events_url` (SSE)."""
    query = SteerQuery(
        model=body.model,
        text=body.text,
        edits=tuple(EditQuery(source=e.source, index=e.index, strength=e.strength) for e in body.edits),
        n_tokens=body.n_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        seed=body.seed,
        truncate=body.truncate,
    )
    query.check()
    job = asks.start_steering(query)
    if body.wait:
        return Status(200, asks.steering_result(job))
    return Status(202, job)


@router.post("/jobs/{job_id}/cancel", response={204: None}, operation_id="cancel_job")
def cancel(request: HttpRequest, job_id: Path[str]) -> Status[None]:
    """Stop a live request; its stream ends with what there is."""
    live.cancel(job_id)
    return Status(204, None)


@router.get("/workers", response=EngineStatus, operation_id="workers")
def workers(request: HttpRequest) -> EngineStatus:
    """Return the workers that are alive and how many live requests wait."""
    return live.engine_status()
