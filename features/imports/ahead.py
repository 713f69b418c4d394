"""Work that is done in a thread of its own, while whoever needs its results waits for Postgres."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")
_END = object()


class Ahead(Generic[T]):
    """Takes items from an iterator in a thread, at most `most` of them before they are asked for here.

    The thread works while the context lasts; iterate once, inside it. What the iterator raises is raised here. It must
    not use Django's connection: each thread has its own, which sees nothing of this one's transaction.
    """

    def __init__(self, items: Iterator[T], *, most: int) -> None:
        self._items = items
        self._found: queue.SimpleQueue = queue.SimpleQueue()
        self._room = threading.Semaphore(most)
        self._stopped = False
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="facet-ahead", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __iter__(self) -> Iterator[T]:
        while (item := self._found.get()) is not _END:
            self._room.release()
            yield item
        if self._error is not None:
            raise self._error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stopped = True
        self._room.release()
        self._thread.join()

    def _work(self) -> None:
        try:
            for item in self._items:
                self._room.acquire()
                if self._stopped:
                    return
                self._found.put(item)
        except Exception as error:  # noqa: BLE001  it is raised where the items are asked for
            self._error = error
        finally:
            self._found.put(_END)
