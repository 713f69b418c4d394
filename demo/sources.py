"""Python source files that every installation of Facet has on disk: the demonstration's text.

Nothing is downloaded and nothing is shipped: the standard library and the packages that Facet stands on are the corpus.
The split is by file, from a hash of the file's name, so that a file is held out on every machine or on none.
"""

import hashlib
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# In order of interest: a reader who takes the first files of the list gets the most readable text.
# fmt: off
PACKAGES = (
    "django", "celery", "kombu", "amqp", "billiard", "vine", "psycopg", "redis", "valkey", "pydantic", "uvicorn",
    "starlette", "anyio", "httpx", "httpx2", "httpcore", "httpcore2", "jinja2", "markdown_it", "yaml", "structlog",
    "whitenoise", "click", "dateutil", "packaging", "tqdm", "fsspec", "huggingface_hub", "numpy", "networkx", "mpmath",
    "joblib", "sentence_transformers", "narwhals", "sklearn", "scipy", "pip", "setuptools", "torch", "torchgen",
    "triton", "transformers", "sympy",
)
# fmt: on
NOT_TEXT = ("stdlib/encodings/", "stdlib/pydoc_data/", "stdlib/lib2to3/tests/data/", "site/django/conf/locale/")
HELD_OUT_PERCENT = 4
MAX_FILE_BYTES = 200_000
MAX_PACKAGE_BYTES = 20_000_000
MAX_MEAN_LINE = 100


@dataclass(frozen=True)
class SourceFile:
    """A file of the corpus: its name on every machine, its path on this one, and its side of the split."""

    name: str
    path: Path
    split: str


def list_sources(split: str | None = None, *, roots: Sequence[tuple[str, Path]] | None = None) -> list[SourceFile]:
    """Return the corpus in a fixed order: the standard library, then the packages in order of interest."""
    files = []
    for prefix, root in installed_roots() if roots is None else roots:
        taken = 0
        for path in _in_hash_order(prefix, root):
            size = path.stat().st_size
            if size > MAX_FILE_BYTES or taken + size > MAX_PACKAGE_BYTES:
                continue
            taken += size
            name = _name(prefix, root, path)
            files.append(SourceFile(name, path, split_of(name)))
    return [file for file in files if split in (None, file.split)]


def installed_roots() -> list[tuple[str, Path]]:
    """Return `(prefix of names, folder)` of the standard library and of each package that is installed."""
    paths = sysconfig.get_paths()
    site = Path(paths["purelib"])
    packages = [(f"site/{name}", site / name) for name in PACKAGES]
    return [("stdlib", Path(paths["stdlib"])), *((prefix, root) for prefix, root in packages if root.is_dir())]


def split_of(name: str) -> str:
    """Return `held-out` for about 4 in 100 names, `train` for the others."""
    return "held-out" if _hash(name) % 100 < HELD_OUT_PERCENT else "train"


def read(source: SourceFile) -> str:
    """Return the text of a file, or an empty string where it is data, a table or another encoding than UTF-8."""
    try:
        text = source.path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
    return "" if len(text) > MAX_MEAN_LINE * (text.count("\n") + 1) else text


def _in_hash_order(prefix: str, root: Path) -> Iterator[Path]:
    paths = {_name(prefix, root, path): path for path in root.rglob("*.py") if not _outside(root, path)}
    names = sorted((name for name in paths if not name.startswith(NOT_TEXT)), key=_hash)
    return (paths[name] for name in names)


def _outside(root: Path, path: Path) -> bool:
    # Some interpreters keep their packages inside the standard library's folder.
    return not {"site-packages", "dist-packages"}.isdisjoint(path.relative_to(root).parts)


def _name(prefix: str, root: Path, path: Path) -> str:
    return f"{prefix}/{path.relative_to(root).as_posix()}"


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")
