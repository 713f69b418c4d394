"""Dry runs: what lies at a path or a hub id, and whether it can be added. Nothing is written, and torch is not needed.

`dictionaries`, `models` and `corpora` each look at one kind of thing, and return frozen values for pages and the API.
"""

from features.looks.corpora import CorpusLook, look_at_corpus
from features.looks.dictionaries import DictionaryLook, look_at_dictionaries
from features.looks.models import ModelLook, look_at_model

__all__ = ["CorpusLook", "DictionaryLook", "ModelLook", "look_at_corpus", "look_at_dictionaries", "look_at_model"]
