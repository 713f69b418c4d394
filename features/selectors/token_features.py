"""The features that fire most on a token id, as the last build found them."""

from __future__ import annotations

from features import packed_tokens
from features.models import TokenFeature, VocabularyToken
from features.results import SourceCard, TokenFeatureRow, TokenFeatures
from features.selectors.feature_rows import features_near
from features.selectors.sources import active_runs, as_source_card, dictionary_at, tokens_like
from inference.errors import NotFound

MAX_TOKENS = 3


def tokens_firing(model: str, source: str, text: str) -> tuple[SourceCard, tuple[TokenFeatures, ...]]:
    """Return a dictionary, and the features that fire most on each token that reads like a text.

    The tokens are at most MAX_TOKENS, the commonest first, those that have features. Raises UnknownAddress. At most
    fifteen queries.
    """
    dictionary = dictionary_at(model, source)
    found = [token_features(model, source, token) for token in tokens_like(dictionary.model_id, text)[:MAX_TOKENS]]
    firing = sorted((token for token in found if token.features), key=lambda token: -token.occurrences)
    return as_source_card(dictionary, active_runs()), tuple(firing)


def token_features(model: str, source: str, token_id: int) -> TokenFeatures:
    """Return the features of a dictionary that fire most on a token id; raise UnknownAddress and NotFound.

    A token id on which nothing fired, or that the text did not have, has no features. Four queries.
    """
    dictionary = dictionary_at(model, source)
    token = VocabularyToken.objects.filter(model_id=dictionary.model_id, token_id=token_id).first()
    if token is None:
        raise NotFound(
            f"The model {model} has no token {token_id}.",
            f"Token ids go from 0 to {dictionary.model.d_vocab - 1}.",
            token_id=token_id,
        )
    block = TokenFeature.objects.filter(dictionary_id=dictionary.id, block=token_id // packed_tokens.BLOCK).first()
    row = packed_tokens.unpack(block.packed, token_id) if block is not None else None
    if row is None:
        return TokenFeatures(token_id=token_id, text=token.text, occurrences=0, features=())
    near, n_tokens = features_near(dictionary.id, row.feature_ids), dictionary.stats.get("n_tokens") or 0
    columns = zip(row.feature_ids, row.counts, row.strengths, strict=True)
    return TokenFeatures(
        token_id=token_id,
        text=token.text,
        occurrences=row.occurrences,
        features=tuple(
            TokenFeatureRow(
                index=index,
                count=count,
                share=count / row.occurrences if row.occurrences else 0.0,
                strength=strength,
                label=near[index].label,
                density=near[index].firing_count / n_tokens if n_tokens else 0.0,
            )
            for index, count, strength in columns
        ),
    )
