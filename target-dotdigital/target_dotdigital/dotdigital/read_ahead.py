"""Reads one item of an iterator ahead, so that waiting for the network and storing what came overlap."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

Item = TypeVar("Item")


class _Reading(Generic[Item]):
    """One item that is being read in a background thread.

    The thread is a daemon: a run that ends, for example after a signal, does not wait for a call that nobody needs any more.
    """

    def __init__(self, items: Iterator[Item]) -> None:
        """Store the iterator."""
        self._items = items
        self._found: list[Item] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, name="read-ahead", daemon=True)

    def start(self) -> None:
        """Start to read."""
        self._thread.start()

    def result(self) -> list[Item]:
        """Wait for the item and return it in a list, which is empty at the end of the iterator; what reading raised is raised here."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._found

    def _read(self) -> None:
        try:
            self._found.extend([next(self._items)])
        except StopIteration:
            return
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits for it
            self._error = error


def read_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """Yield the items of an iterator, reading the next one in the background while the caller works on the current one.

    At most one item is read ahead. A caller that stops early leaves at most one call behind, which ends by itself.
    """
    reading = _Reading(items)
    reading.start()
    while found := reading.result():
        reading = _Reading(items)
        reading.start()
        yield found[0]
