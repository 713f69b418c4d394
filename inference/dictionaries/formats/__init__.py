"""The layouts that dictionaries are published in; a format is a module with `matches`, `read_config`, `read_tensors`.

Every format gives the same canonical tensors: `w_enc_df`, `b_enc_f`, `w_dec_fo`, `b_out_o`, and where it has them
`b_in_d` (subtracted from the input), `threshold_f` and `w_skip_do`. Reading a config needs no torch.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from inference.dictionaries.config import DictionaryConfig, UnknownDictionary
from inference.dictionaries.formats import saelens

FORMATS: dict[str, ModuleType] = {"saelens": saelens}


def read_config(path: str | Path) -> DictionaryConfig:
    """Return the facts of the dictionary in a folder, or beside a file, after checking its weights' header."""
    path = Path(path)
    folder = path.parent if path.is_file() else path
    for module in FORMATS.values():
        if module.matches(folder):
            return module.read_config(folder)
    layouts = "; ".join(f"{name}: {module.LAYOUT}" for name, module in FORMATS.items())
    raise UnknownDictionary(
        f"There is no dictionary at {path}.", f"Layouts that Facet reads: {layouts}.", path=str(path)
    )
