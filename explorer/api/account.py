"""Who calls, and tokens for programs."""

from __future__ import annotations

from django.http import HttpRequest
from ninja import Router

from explorer.api import schemas
from explorer.api.auth import TOKEN_DAYS, reader, token_for

router = Router(tags=["account"])


@router.post("/token", response=schemas.TokenOut, operation_id="token")
def token(request: HttpRequest, body: schemas.TokenIn) -> schemas.TokenOut:
    """Return a bearer token for an account; changing the password ends all tokens of the account."""
    return schemas.TokenOut(token=token_for(request, username=body.username, password=body.password), days=TOKEN_DAYS)


@router.get("/me", response=schemas.Account, operation_id="me")
def me(request: HttpRequest) -> schemas.Account:
    """Return who the caller is, by session or by token; an empty name for a visitor."""
    user = reader(request)
    return schemas.Account(username=user.get_username() if user else "")
