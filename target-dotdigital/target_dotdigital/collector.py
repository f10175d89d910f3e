"""Collects the input: checks every record, turns names into labels, and puts what is desired into the ledger."""

from __future__ import annotations

import collections
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import msgspec

from target_dotdigital.addresses import is_address, normalise
from target_dotdigital.book import EMPTY
from target_dotdigital.errors import DeliveryError

if TYPE_CHECKING:
    from target_dotdigital.book import Book, Incoming
    from target_dotdigital.labels import Labels
    from target_dotdigital.settings import Settings

BATCH = 5_000
# a shop has few combinations of segments compared with its contacts, but a hostile one may have many
COMBINATIONS = 100_000
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
        self._excluded = settings.exclude_emails
        self._buffer: list[Incoming] = []
        self._spared: list[str] = []
        self._versions: set[str] = set()
        self._early: dict[str, bool] = {}
        self._seen: collections.Counter[str] = collections.Counter()
        book.open_input()

    def add(self, stream: str, email: object, segments: object, *, deleted: bool) -> None:
        """Take one record, whatever it holds.

        Args:
            stream: its stream.
            email: what the record holds as address.
            segments: what it holds as names: an array of texts, or a delimited text.
            deleted: whether the record says that the contact vanished.
        """
        texts = isinstance(segments, str) or (isinstance(segments, list) and all(isinstance(name, str) for name in segments))
        self.take(stream, email if isinstance(email, str) else "", cast("list[str] | str", segments) if texts else None, deleted)

    def take(self, stream: str, email: str, segments: list[str] | str | None, deleted: bool) -> None:  # noqa: FBT001 - the quick way
        """Take one record whose types are checked; `segments` is None where they were of no use."""
        self._seen[stream] += 1
        if self._early:
            self._early[stream] = False
        address = normalise(email)
        if not is_address(address):
            self.intake.invalid[INVALID_ADDRESS] += 1
        elif self._excluded and any(fnmatchcase(address, pattern) for pattern in self._excluded):
            self.intake.excluded += 1
            self._spare(address)
        elif deleted:
            self._vanished(stream, address)
        elif segments is None:
            # a missing list is no empty list: to read it so would take every label away
            self.intake.invalid[INVALID_SEGMENTS] += 1
            self._spare(address)
        else:
            names = self._labels.split(segments) if isinstance(segments, str) else segments
            self._put((address, stream, encode(sorted(set(names))).decode(), False))

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
        self.intake.read = self._seen.total()
        self.intake.distinct = self.book.named()
        self.book.desire(lru_cache(COMBINATIONS)(self._payload))
        if self._settings.on_removed == "clear":
            for stream in sorted(self._versions | {stream for stream, whole in self._early.items() if whole}):
                self.intake.vanished += self.book.vanish_unseen(stream)
                self.book.describe(whole=True)
        return self.intake

    def flush(self) -> None:
        """Put what is buffered into the ledger."""
        self.book.receive(self._buffer)
        self.book.spare(self._spared)
        self._buffer.clear()
        self._spared.clear()

    def _vanished(self, stream: str, address: str) -> None:
        if self._settings.on_removed == "keep":
            self.intake.kept += 1
            return
        self.intake.vanished += 1
        self._put((address, stream, "[]", True))

    def _put(self, row: Incoming) -> None:
        self._buffer.append(row)
        if len(self._buffer) >= BATCH:
            self.flush()

    def _spare(self, address: str) -> None:
        """Remember who is named but says nothing that counts: whoever is named has not vanished."""
        self._spared.append(address)
        if len(self._spared) >= BATCH:
            self.flush()

    def _payload(self, names: str) -> str:
        labelled = self._labels.of(msgspec.json.decode(names))
        if labelled.dropped:
            if self._settings.labels.overflow == "fail":
                msg = (
                    f"The labels of a contact do not fit into {self._settings.labels.length} characters, and overflow is set to fail. "
                    "Nothing was written. Choose fewer segments, shorter segment_labels, or another overflow."
                )
                raise DeliveryError(msg)
            self.intake.dropped.update(labelled.dropped)
        return payload(dict(labelled.values))


def payload(values: dict[str, Any]) -> str:
    """Give the ledger's form of the values."""
    return encode(values).decode() if values else EMPTY
