"""The stored words of design.md: models, dictionaries, corpora, features, what people write about them, and runs."""

from features.models.annotations import Comment, Explanation, FeatureList, ListMember, Vote
from features.models.corpora import Context, Corpus, Document, Tokenization
from features.models.dictionaries import Dictionary, Release
from features.models.features import Example, Feature, Posting, TokenFeature
from features.models.language_models import LanguageModel, VocabularyToken
from features.models.runs import Run, RunLine, Shard

__all__ = [
    "Comment",
    "Context",
    "Corpus",
    "Dictionary",
    "Document",
    "Example",
    "Explanation",
    "Feature",
    "FeatureList",
    "LanguageModel",
    "ListMember",
    "Posting",
    "Release",
    "Run",
    "RunLine",
    "Shard",
    "TokenFeature",
    "Tokenization",
    "VocabularyToken",
    "Vote",
]
