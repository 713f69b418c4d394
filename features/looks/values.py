"""What every look may find: an error in place of facts, and a download that must come first."""

from __future__ import annotations

from dataclasses import dataclass

from inference.dictionaries.hub import Download
from inference.errors import FacetError


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An error about one of several things, as pages and the API show errors."""

    code: str
    cause: str
    remedy: str

    @classmethod
    def of(cls, error: FacetError) -> Problem:
        return cls(code=error.code, cause=error.cause, remedy=error.remedy)


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadFacts:
    """What must be fetched from a hub before anybody can look at it."""

    id: str
    revision: str
    n_files: int
    n_bytes: int
    missing_bytes: int
    free_bytes: int

    @classmethod
    def of(cls, download: Download) -> DownloadFacts:
        return cls(
            id=download.id,
            revision=download.revision,
            n_files=len(download.sizes),
            n_bytes=download.n_bytes,
            missing_bytes=download.missing_bytes,
            free_bytes=download.free_bytes,
        )
