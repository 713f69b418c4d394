"""Texts for corpora: files, lines of JSON, Parquet, folders of source code, and datasets of a hub, each streamed.

`documents_of` yields what `services.corpora.add_corpus` takes. Text files and lines of JSON stay where they are;
Parquet and datasets are copied once to lines of JSON on this machine. What is no document is counted in `Skips`.
"""

from features.texts.finding import documents_in, documents_of
from features.texts.skips import Skips

__all__ = ["Skips", "documents_in", "documents_of"]
