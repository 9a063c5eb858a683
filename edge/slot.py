"""Between two threads: room for one thing, the newest."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Slot(Generic[T]):
    """Holds one item. A newer one replaces it, so that whoever takes is never behind by more than one."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._item: T | None = None
        self._closed = False
        self._replaced = 0

    @property
    def replaced(self) -> int:
        """How many items nobody took before a newer one came."""
        return self._replaced

    def put(self, item: T) -> None:
        """Offer an item; never waits."""
        with self._changed:
            self._replaced += self._item is not None
            self._item = item
            self._changed.notify()

    def take(self) -> T | None:
        """Wait for the newest item; None once the slot is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._item is not None or self._closed)
            item, self._item = self._item, None
            return item

    def close(self) -> None:
        """Say that nothing more will come; what is still there can be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
