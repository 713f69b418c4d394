"""Dictionaries: what sparse features are made of, and the formats they are published in.

`read_config` and `DictionaryConfig` need no torch, so that web code may use them; `load_dictionary` imports it when
called.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from inference.dictionaries.config import DictionaryConfig, ModelShape, check_fit
from inference.dictionaries.formats import find_dictionaries, parts_of, place_below, read_config
from inference.dictionaries.hub import local_path

if TYPE_CHECKING:
    from inference.dictionaries.dictionary import Dictionary
    from inference.language_models import LanguageModel

__all__ = [
    "DictionaryConfig",
    "ModelShape",
    "check_fit",
    "find_dictionaries",
    "load_dictionary",
    "local_path",
    "parts_of",
    "place_below",
    "read_config",
]


def load_dictionary(
    path: str | Path, *, device: object = None, dtype: str = "float32", model: LanguageModel | None = None
) -> Dictionary:
    """Load a dictionary from its folder, or from a file in that folder, in any layout of `formats`.

    `model` is the one that it is to run on: some read what another package had shifted in it.

    Raises what `read_config` does, and DamagedDictionary that names the file and the tensor.
    """
    from inference.dictionaries.dictionary import load

    return load(read_config(path), device=device, dtype=dtype, model=model)
