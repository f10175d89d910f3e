"""Collects the input: checks every record, turns names into labels, and puts what is desired into the ledger."""

from __future__ import annotations

import collections
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import msgspec

from target_dotdigital.addresses import is_address, normalise
from target_dotdigital.book import EMPTY, Book, Desired
from target_dotdigital.errors import DeliveryError
from target_dotdigital.tables import contacts

if TYPE_CHECKING:
    from target_dotdigital.labels import Labels
    from target_dotdigital.settings import Settings

BATCH = 5_000
INVALID_ADDRESS = "no e-mail address"
INVALID_SEGMENTS = "no list of segments"
encode = msgspec.json.Encoder(order="sorted").encode


@dataclass(slots=True)
class Intake:
    """What came in, in numbers.

    Args:
        read: records.
        invalid: records that were left out, by reason.
        excluded: records that exclude_emails leaves alone.
        kept: vanished contacts whose labels on_removed keeps.
        vanished: records of vanished contacts.
        distinct: contacts named, each once.
        dropped: names that were left out, and of how many combinations.
    """

    read: int = 0
    invalid: collections.Counter[str] = field(default_factory=collections.Counter)
    excluded: int = 0
    kept: int = 0
    vanished: int = 0
    distinct: int = 0
    dropped: collections.Counter[str] = field(default_factory=collections.Counter)

    @property
    def doubled(self) -> int:
        """Records for an address that another record of this run names too."""
        return max(0, self.read - sum(self.invalid.values()) - self.excluded - self.kept - self.distinct)


class Collector:
    """Puts records into the ledger's part for one run.

    Args:
        book: the ledger's part.
        labels: names to values.
        settings: the settings.
    """

    def __init__(self, book: Book, labels: Labels, settings: Settings) -> None:
        """Start with nothing collected."""
        self.intake = Intake()
        self.book = book
        self._labels = labels
        self._settings = settings
        self._buffer: list[Desired] = []
        self._payloads: dict[tuple[str, ...], tuple[str, str]] = {}
        self._versions: set[str] = set()
        self._early: dict[str, bool] = {}
        self._seen: collections.Counter[str] = collections.Counter()

    def add(self, stream: str, email: object, segments: object, *, deleted: bool) -> None:
        """Take one record.

        Args:
            stream: its stream.
            email: what the record holds as address.
            segments: what it holds as names: an array of texts, or a delimited text.
            deleted: whether the record says that the contact vanished.
        """
        self.intake.read += 1
        self._seen[stream] += 1
        if stream in self._early:
            self._early[stream] = False
        address = normalise(email) if isinstance(email, str) else ""
        if not is_address(address):
            self.intake.invalid[INVALID_ADDRESS] += 1
            return
        if self._settings.exclude_emails and any(fnmatchcase(address, p) for p in self._settings.exclude_emails):
            self.intake.excluded += 1
            return
        if deleted:
            self._vanished(stream, address)
            return
        names = self._names(segments)
        if names is None:
            # a missing list is no empty list: to read it so would take every label away
            self.intake.invalid[INVALID_SEGMENTS] += 1
            return
        known = self._payloads.get(names)
        if known is None:
            known = self._payload(names)
        self._put(Desired(address, stream, known[0], known[1], vanished=False))

    def activate(self, stream: str) -> None:
        """Take an ACTIVATE_VERSION: what this run does not name of the stream has vanished.

        After the records it says that they were all. Before them it says so only if the input goes on to its end, which a
        STATE behind the last record shows.
        """
        if self._seen[stream]:
            self._versions.add(stream)
        else:
            self._early[stream] = False

    def state(self) -> None:
        """Take a STATE: what came before it is complete."""
        self._early = dict.fromkeys(self._early, True)

    def finish(self) -> Intake:
        """Put the rest into the ledger, and treat as vanished what a whole version does not name."""
        self.flush()
        self.intake.distinct = self.book.count(contacts.c.run == self.book.run)
        if self._settings.on_removed == "clear":
            for stream in sorted(self._versions | {stream for stream, whole in self._early.items() if whole}):
                self.intake.vanished += self.book.vanish_unseen(stream)
                self.book.describe(whole=True)
        return self.intake

    def flush(self) -> None:
        """Put what is buffered into the ledger."""
        if self._buffer:
            self.book.desire(self._buffer)
            self._buffer.clear()

    def _vanished(self, stream: str, address: str) -> None:
        if self._settings.on_removed == "keep":
            self.intake.kept += 1
            return
        self.intake.vanished += 1
        self._put(Desired(address, stream, "[]", EMPTY, vanished=True))

    def _put(self, row: Desired) -> None:
        self._buffer.append(row)
        if len(self._buffer) >= BATCH:
            self.flush()

    def _names(self, segments: object) -> tuple[str, ...] | None:
        if isinstance(segments, list):
            return tuple(segments) if all(isinstance(name, str) for name in segments) else None
        return tuple(self._labels.split(segments)) if isinstance(segments, str) else None

    def _payload(self, names: tuple[str, ...]) -> tuple[str, str]:
        labelled = self._labels.of(names)
        if labelled.dropped:
            if self._settings.labels.overflow == "fail":
                msg = (
                    f"The labels of a contact do not fit into {self._settings.labels.length} characters, and overflow is set to fail. "
                    "Nothing was written. Choose fewer segments, shorter segment_labels, or another overflow."
                )
                raise DeliveryError(msg)
            self.intake.dropped.update(labelled.dropped)
        if len(self._payloads) >= 100_000:  # noqa: PLR2004 - some tens of megabytes
            self._payloads.clear()
        found = encode(sorted(set(names))).decode(), payload(dict(labelled.values))
        self._payloads[names] = found
        return found


def payload(values: dict[str, Any]) -> str:
    """Give the ledger's form of the values."""
    return encode(values).decode() if values else EMPTY
