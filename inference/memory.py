"""A cache of models and dictionaries that counts bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import RLock
from typing import Any, Protocol, TypeVar


class Sized(Protocol):
    """Something that knows how much memory it holds."""

    @property
    def n_bytes(self) -> int: ...


Item = TypeVar("Item", bound=Sized)


class ByteLRU:
    """Keeps what was used last, up to a number of bytes.

    The newest item is kept even if it alone is larger than the capacity: what is needed now has to be somewhere.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self._items: OrderedDict[Hashable, Sized] = OrderedDict()
        self._lock = RLock()

    @property
    def n_bytes(self) -> int:
        """The bytes held now."""
        with self._lock:
            return sum(item.n_bytes for item in self._items.values())

    def get(self, key: Hashable, load: Callable[[], Item]) -> Item:
        """Return the item under a key, loading it first if it is not here."""
        with self._lock:
            if key not in self._items:
                self._items[key] = load()
                self._evict(keep=key)
            self._items.move_to_end(key)
            return self._items[key]  # type: ignore[return-value]

    def find(self, key: Hashable) -> Any:
        """Return the item under a key, None if it is not here."""
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
            return self._items.get(key)

    def discard(self, key: Hashable) -> None:
        """Forget an item, if it is here."""
        with self._lock:
            self._items.pop(key, None)

    def keys(self) -> tuple[Hashable, ...]:
        """Return the keys from the least to the most recently used."""
        with self._lock:
            return tuple(self._items)

    def _evict(self, *, keep: Hashable) -> None:
        for key in [key for key in self._items if key != keep]:
            if self.n_bytes <= self.capacity_bytes:
                return
            del self._items[key]
