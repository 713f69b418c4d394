"""The layouts that dictionaries are published in.

A layout is a small module: `LAYOUT` says what it looks like, `ARCHITECTURES` maps its names of architectures to ours,
`detect` tells whether it fits a place, and why, and `read_config` returns the facts, among them which stored tensor is
which canonical one (`formats.tensors`). None of it needs torch. A layout that is not detected by the names of its files
comes behind those that are. A layout in which one file or folder holds several dictionaries also has `parts`, which
returns what may follow `#` behind its path, nothing where there is but one; `read_config` is then given a place with a
part.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from inference.dictionaries.config import DictionaryConfig, SeveralDictionaries, UnknownDictionary
from inference.dictionaries.formats import (
    bussmann,
    checkpoint,
    circuit_tracer,
    circuit_tracer_clt,
    crosscoder_learning,
    decode_clt,
    dictionary_learning,
    e2e_sae,
    gemma_scope,
    gemma_scope_2,
    gemma_scope_2_layers,
    goodfire,
    interplm,
    itda,
    llama_scope,
    llama_scope_r1,
    llamascopium,
    mlsae,
    model_diff,
    neel_nanda,
    noanabeshima,
    openai,
    overcomplete,
    own_model,
    plain,
    qwen_scope,
    saelens,
    saev,
    snmf,
    sparsify,
    temporal_saes,
    vectors,
)
from inference.dictionaries.formats.place import Place
from inference.dictionaries.storage import SUFFIXES, damaged
from inference.errors import FacetError

FORMATS: dict[str, ModuleType] = {
    "own_model": own_model,
    "saelens": saelens,
    "sparsify": sparsify,
    "gemma_scope": gemma_scope,
    "gemma_scope_2": gemma_scope_2,
    "gemma_scope_2_layers": gemma_scope_2_layers,
    "llama_scope": llama_scope,
    "llama_scope_r1": llama_scope_r1,
    "llamascopium": llamascopium,
    "decode_clt": decode_clt,
    "model_diff": model_diff,
    "temporal_saes": temporal_saes,
    "vectors": vectors,
    "plain": plain,
    "itda": itda,
    "snmf": snmf,
    "bussmann": bussmann,
    "mlsae": mlsae,
    "circuit_tracer": circuit_tracer,
    "circuit_tracer_clt": circuit_tracer_clt,
    "crosscoder_learning": crosscoder_learning,
    "saev": saev,
    "checkpoint": checkpoint,
    "e2e_sae": e2e_sae,
    "neel_nanda": neel_nanda,
    "noanabeshima": noanabeshima,
    "interplm": interplm,
    "overcomplete": overcomplete,
    "goodfire": goodfire,
    "dictionary_learning": dictionary_learning,
    "qwen_scope": qwen_scope,
    "openai": openai,
}
# How far a search goes: publications nest no deeper, and a wrong folder should not be walked for minutes.
MAX_DEPTH = 5
MAX_ENTRIES = 20_000
MAX_SUGGESTIONS = 20
# A config is anybody's JSON: a list where a number should be can fail anywhere.
_ODD_VALUES = (TypeError, ValueError, AttributeError, LookupError, OverflowError)


def read_config(path: str | Path, *, digest: bool = True) -> DictionaryConfig:
    """Return the facts of the dictionary in a folder, or in a file, after checking its weights' table of contents.

    `digest` says whether to read the weights for their SHA-256, which takes seconds for every few gigabytes.
    Raises UnknownDictionary, SeveralDictionaries, UnsupportedDictionary, DamagedDictionary, RefusedPickle.
    """
    place = Place.named(path, digests=digest)
    if not place.path.exists():
        raise UnknownDictionary(f"There is nothing at {path}.", "Check the path.", path=str(path))
    verdicts = {}
    for name, module in FORMATS.items():
        verdicts[name] = module.detect(place)
        if verdicts[name].fits:
            return _read(module, place)
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


def _read(module: ModuleType, place: Place) -> DictionaryConfig:
    """Return the facts that a layout reads; raise DamagedDictionary for values of kinds that its config cannot have."""
    try:
        _check_part(place, _parts(module, place))
        return module.read_config(place)
    except _ODD_VALUES as error:
        raise damaged(place.path, f"its config has a value that it cannot have ({error})") from error


def find_dictionaries(folder: Path) -> Iterator[Path]:
    """Yield the folders and files under a folder that hold a dictionary, in order of their paths.

    A file that cannot be read is passed over: it is for `read_config` to say why. So is a folder below the one named.
    """
    if not folder.is_dir():
        return
    entries = 0
    waiting = [(folder, 0)]
    while waiting and entries < MAX_ENTRIES:
        here, depth = waiting.pop(0)
        try:
            children = sorted(here.iterdir())
            folders = [child for child in children if child.is_dir() and not child.name.startswith(".")]
        except OSError:
            if depth == 0:
                raise
            continue
        entries += len(children)
        if found := _dictionaries_at(here):
            yield from found
            continue
        files = (child for child in children if child.suffix in SUFFIXES and child.is_file())
        yield from (found for child in files for found in _dictionaries_at(child))
        if depth < MAX_DEPTH:
            waiting += [(child, depth + 1) for child in folders]


def place_below(found: Path, here: Path) -> str:
    """Return where a dictionary lies below a path that was searched: `#part` where it is a part of that path."""
    return str(found)[len(str(here)) :] if str(found).startswith(f"{here}#") else str(found.relative_to(here))


def parts_of(path: str | Path) -> list[str]:
    """Return the parts of a path that holds several dictionaries, which follow `#`; nothing where it holds but one."""
    place = Place(Path(path))
    module = next((module for module in FORMATS.values() if module.detect(place).fits), None)
    return [] if module is None else _parts(module, place)


def _dictionaries_at(path: Path) -> list[Path]:
    """Return the path of the dictionary there, or of each of its parts; nothing where no layout fits."""
    place = Place(path)
    try:
        module = next((module for module in FORMATS.values() if module.detect(place).fits), None)
        return [] if module is None else [Path(f"{path}#{part}") for part in _parts(module, place)] or [path]
    except (FacetError, OSError, *_ODD_VALUES):
        return []


def _parts(module: ModuleType, place: Place) -> list[str]:
    parts = module.parts(place) if hasattr(module, "parts") else []
    # A dictionary of a group of hook points, as of layers that share one, is a part at each of them.
    return parts or [str(point) for point in place.overrides.get("hook_points", ())]


def _check_part(place: Place, parts: list[str]) -> None:
    """Raise SeveralDictionaries where a part must be named and is not, UnknownDictionary for one that is not there."""
    suggestions = [f"{place.path}#{part}" for part in parts]
    if parts and not place.part:
        raise SeveralDictionaries(
            f"{place.path} holds {len(parts)} dictionaries.",
            f"Name one of them, from {suggestions[0]} to {suggestions[-1]}, or give a pattern that matches several.",
            suggestions=suggestions[:MAX_SUGGESTIONS],
        )
    if place.part and place.part not in parts:
        raise UnknownDictionary(
            f"{place.path} has no part {place.part!r}.",
            f"It has: {', '.join(parts)}." if parts else "It is one dictionary: leave out what follows the #.",
            path=str(place.path),
        )
