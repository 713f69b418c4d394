"""What people say about features: labels, votes, comments."""

from __future__ import annotations

from django.http import HttpRequest
from ninja import Router, Status

from explorer.api import schemas
from explorer.api.auth import SIGNED_IN, caller
from features import selectors, services
from features.results import CommentCard, ExplanationCard

router = Router(tags=["annotations"])


@router.post(
    "/features/{model}/{source}/{int:index}/explanations",
    response={201: ExplanationCard},
    auth=SIGNED_IN,
    operation_id="label",
)
def label(request: HttpRequest, model: str, source: str, index: int, body: schemas.LabelIn) -> Status[ExplanationCard]:
    """Say what a feature means, under the caller's name; the same text twice is one label."""
    card = selectors.source_card(model, source)
    row = services.explanations.label(dictionary=card.id, index=index, text=body.text, user=caller(request))
    return Status(
        201,
        ExplanationCard(
            id=row.pk,
            text=row.text,
            method=row.method,
            author=caller(request).get_username(),
            created_at=row.created_at,
            votes=row.votes,
            my_vote=row.votes_cast.filter(user=caller(request)).values_list("value", flat=True).first() or 0,
            mine=True,
        ),
    )


@router.delete("/explanations/{int:explanation}", response={204: None}, auth=SIGNED_IN, operation_id="delete_label")
def delete_label(request: HttpRequest, explanation: int) -> Status[None]:
    """Delete a label of the caller's own."""
    services.explanations.delete(explanation=explanation, user=caller(request))
    return Status(204, None)


@router.post("/explanations/{int:explanation}/vote", response=schemas.Votes, auth=SIGNED_IN, operation_id="vote")
def vote(request: HttpRequest, explanation: int, body: schemas.VoteIn) -> schemas.Votes:
    """Vote for or against an explanation, or take the vote back; return the sum of all votes."""
    votes = services.votes.cast(explanation=explanation, value=body.value, user=caller(request))
    return schemas.Votes(votes=votes)


@router.post(
    "/features/{model}/{source}/{int:index}/comments",
    response={201: CommentCard},
    auth=SIGNED_IN,
    operation_id="comment",
)
def comment(request: HttpRequest, model: str, source: str, index: int, body: schemas.CommentIn) -> Status[CommentCard]:
    """Comment on a feature."""
    card = selectors.source_card(model, source)
    row = services.comments.add(dictionary=card.id, index=index, text=body.text, user=caller(request))
    author = caller(request).get_username()
    return Status(201, CommentCard(id=row.pk, author=author, text=row.text, created_at=row.created_at, mine=True))


@router.delete("/comments/{int:comment}", response={204: None}, auth=SIGNED_IN, operation_id="delete_comment")
def delete_comment(request: HttpRequest, comment: int) -> Status[None]:
    """Delete a comment of the caller's own."""
    services.comments.delete(comment=comment, user=caller(request))
    return Status(204, None)
