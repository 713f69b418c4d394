"""Page-shaped reads: frozen values of features.results, each with a fixed number of queries."""

from features.selectors.corpora import corpora, corpus_page
from features.selectors.documents import document
from features.selectors.examples import example_group, example_groups
from features.selectors.feature_cards import feature_card, feature_page, random_feature
from features.selectors.feature_rows import feature_rows
from features.selectors.lists import feature_list, lists
from features.selectors.models import home, model_page
from features.selectors.runs import run, runs
from features.selectors.search import search
from features.selectors.sources import source_card, source_cards, source_page
from features.selectors.token_features import token_features, tokens_firing

__all__ = [
    "corpora",
    "corpus_page",
    "document",
    "example_group",
    "example_groups",
    "feature_card",
    "feature_list",
    "feature_page",
    "feature_rows",
    "home",
    "lists",
    "model_page",
    "random_feature",
    "run",
    "runs",
    "search",
    "source_card",
    "source_cards",
    "source_page",
    "token_features",
    "tokens_firing",
]
