"""Which dictionaries a command is about."""

from __future__ import annotations

from features import selectors
from features.models import LanguageModel
from features.selectors.suggestions import no_model, no_source
from inference.errors import NotFound


def named_dictionaries(address: str) -> list[int]:
    """Return the ids of MODEL/SOURCE, or of all of MODEL; raise NotFound or UnknownAddress."""
    model, _, source = address.strip("/").partition("/")
    cards = selectors.source_cards(model)
    if source:
        chosen = [card.id for card in cards if card.source == source]
        if not chosen:
            raise no_source(model, source)
        return chosen
    if not cards and LanguageModel.objects.filter(slug=model).exists():
        raise NotFound(
            f"The model {model} has no dictionaries yet.",
            f"Add one: python manage.py add_dictionary FOLDER --model {model}.",
        )
    if not cards:
        raise no_model(model)
    return [card.id for card in cards]
