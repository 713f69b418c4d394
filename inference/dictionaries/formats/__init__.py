"""The layouts that dictionaries are published in.

A layout is a small module: `LAYOUT` says what it looks like, `ARCHITECTURES` maps its names of architectures to ours,
`detect` tells whether it fits a place, and why, and `read_config` returns the facts, among them which stored tensor is
which canonical one (`formats.tensors`). None of it needs torch. A layout that is not detected by the names of its files
comes behind those that are.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from inference.dictionaries.config import DictionaryConfig, SeveralDictionaries, UnknownDictionary
from inference.dictionaries.formats import (
    circuit_tracer,
    dictionary_learning,
    gemma_scope,
    gemma_scope_2,
    goodfire,
    llama_scope,
    llama_scope_r1,
    openai,
    qwen_scope,
    saelens,
    sparsify,
    vectors,
)
from inference.dictionaries.formats.place import Place
from inference.dictionaries.storage import SUFFIXES
from inference.errors import FacetError

FORMATS: dict[str, ModuleType] = {
    "saelens": saelens,
    "sparsify": sparsify,
    "gemma_scope": gemma_scope,
    "gemma_scope_2": gemma_scope_2,
    "llama_scope": llama_scope,
    "llama_scope_r1": llama_scope_r1,
    "vectors": vectors,
    "circuit_tracer": circuit_tracer,
    "dictionary_learning": dictionary_learning,
    "qwen_scope": qwen_scope,
    "openai": openai,
    "goodfire": goodfire,
}
# How far a search goes: publications nest no deeper, and a wrong folder should not be walked for minutes.
MAX_DEPTH = 5
MAX_ENTRIES = 20_000
MAX_SUGGESTIONS = 20


def read_config(path: str | Path) -> DictionaryConfig:
    """Return the facts of the dictionary in a folder, or in a file, after checking its weights' table of contents.

    Raises UnknownDictionary, SeveralDictionaries, UnsupportedDictionary, DamagedDictionary, RefusedPickle.
    """
    place = Place(Path(path))
    if not place.path.exists():
        raise UnknownDictionary(f"There is nothing at {path}.", "Check the path.", path=str(path))
    verdicts = {}
    for name, module in FORMATS.items():
        verdicts[name] = module.detect(place)
        if verdicts[name].fits:
            return module.read_config(place)
    if others := [str(found) for found in find_dictionaries(place.path) if found != place.path]:
        raise SeveralDictionaries(
            f"{path} holds {len(others)} dictionaries, and is none itself.",
            "Name one of them, or give a pattern that matches those that you want.",
            suggestions=others[:MAX_SUGGESTIONS],
        )
    layouts = "; ".join(f"{name}: {module.LAYOUT} ({verdicts[name].why})" for name, module in FORMATS.items())
    found = ", ".join(place.names[:10]) or "no files"
    raise UnknownDictionary(
        f"There is no dictionary at {path}, which has {found}.", f"Layouts that Facet reads: {layouts}.", path=str(path)
    )


def find_dictionaries(folder: Path) -> Iterator[Path]:
    """Yield the folders and files under a folder that hold a dictionary, in order of their paths.

    A file that cannot be read is passed over: it is for `read_config` to say why.
    """
    if not folder.is_dir():
        return
    entries = 0
    waiting = [(folder, 0)]
    while waiting and entries < MAX_ENTRIES:
        here, depth = waiting.pop(0)
        children = sorted(here.iterdir())
        entries += len(children)
        if _fits(here):
            yield here
            continue
        yield from (child for child in children if child.suffix in SUFFIXES and child.is_file() and _fits(child))
        if depth < MAX_DEPTH:
            waiting += [(child, depth + 1) for child in children if child.is_dir() and not child.name.startswith(".")]


def _fits(path: Path) -> bool:
    try:
        return any(module.detect(Place(path)).fits for module in FORMATS.values())
    except FacetError:
        return False
