"""Collects the input: checks every record, puts what is desired into the ledger, and notes how far STATE goes."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, cast

import msgspec

from target_dotdigital.addresses import is_address, normalise
from target_dotdigital.stats import InputStats

if TYPE_CHECKING:
    from target_dotdigital.ledger.contacts import ContactLedger, Incoming
    from target_dotdigital.settings import Settings
    from target_dotdigital.sync.labels import LabelEncoder, Labels

BATCH = 5_000
INVALID_ADDRESS = "no e-mail address"
INVALID_SEGMENTS = "no list of segments"
_encode = msgspec.json.encode


class Collector:
    """Puts records into the ledger's part for one run.

    Args:
        ledger: the ledger's part.
        labels: names to values.
        encoder: names to payloads.
        settings: the settings.
    """

    def __init__(self, ledger: ContactLedger, labels: Labels, encoder: LabelEncoder, settings: Settings) -> None:
        """Start with nothing collected."""
        self.intake = InputStats()
        self.streams: set[str] = set()
        self.ledger = ledger
        self._labels = labels
        self._encoder = encoder
        self._on_removed = settings.on_removed
        self._is_excluded = settings.is_excluded
        self._buffer: list[Incoming] = []
        self._mentioned: list[str] = []
        self._versions: set[str] = set()
        self._early: dict[str, bool] = {}
        self._versioned: set[str] = set()
        self._seen: collections.Counter[str] = collections.Counter()
        self._seen_at_state: collections.Counter[str] = collections.Counter()
        ledger.open_input()

    def add(self, stream: str, email: object, segments: object, *, deleted: bool) -> None:
        """Take one record, whatever it holds.

        Args:
            stream: its stream.
            email: what the record holds as address.
            segments: what it holds as names: an array of texts, or a delimited text.
            deleted: whether the record says that the contact was removed.
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
        elif self._is_excluded is not None and self._is_excluded(address):
            self.intake.excluded += 1
            self._mark_mentioned(address)
        elif deleted:
            self._remove(stream, address)
        elif segments is None:
            # a missing list is no empty list: to read it so would take every label away
            self.intake.invalid[INVALID_SEGMENTS] += 1
            self._mark_mentioned(address)
        else:
            names = self._labels.split(segments) if isinstance(segments, str) else segments
            self._put((address, stream, _encode(sorted(set(names))).decode(), False))

    def expect_version(self, stream: str) -> None:
        """Note that records of a stream belong to a version: they are whole only once it is activated."""
        self._versioned.add(stream)

    def activate(self, stream: str) -> None:
        """Take an ACTIVATE_VERSION: what this run does not name of the stream was removed.

        After the records it says that they were all. Before them it says so only if the input goes on to its end, which a
        STATE behind the last record shows.
        """
        self.streams.add(stream)
        if self._seen[stream]:
            self._versions.add(stream)
        else:
            self._early[stream] = False

    def state(self) -> None:
        """Take a STATE: what came before it is complete."""
        self._early = dict.fromkeys(self._early, True)
        self._seen_at_state = self._seen.copy()

    def finish(self) -> InputStats:
        """Put the rest into the ledger, and desire what came in."""
        self.flush()
        self.intake.read = self._seen.total()
        self.intake.distinct = self.ledger.count_input()
        self.intake.dropped = self._encoder.dropped
        self.ledger.desire(self._encoder.payload_of)
        return self.intake

    @property
    def whole(self) -> set[str]:
        """Streams of which the input named every contact."""
        return self._versions | {stream for stream, whole in self._early.items() if whole}

    @property
    def is_whole(self) -> bool:
        """Whether the input named every contact of each of its streams."""
        return bool(self.streams) and self.streams <= self.whole

    @property
    def unactivated(self) -> bool:
        """Whether records belong to a version that was never activated: the source broke off."""
        return bool(self._versioned - self._versions - self._early.keys())

    @property
    def after_state(self) -> set[str]:
        """Streams whose last record came after the last STATE."""
        return {stream for stream, count in self._seen.items() if count > self._seen_at_state[stream]}

    def remove_unmentioned(self) -> None:
        """Treat as removed what the whole streams of the input do not name; the account was read back before."""
        if not self.whole:
            return
        self.ledger.update_scope(whole=True)
        if self._on_removed == "clear":
            self.intake.removed += self.ledger.remove_unmentioned(self.whole, self.streams - self.whole, self._is_excluded)

    def flush(self) -> None:
        """Put what is buffered into the ledger."""
        self.ledger.receive(self._buffer)
        self.ledger.mark_mentioned(self._mentioned)
        self._buffer.clear()
        self._mentioned.clear()

    def _remove(self, stream: str, address: str) -> None:
        if self._on_removed == "keep":
            self.intake.kept += 1
            self._mark_mentioned(address)
            return
        self.intake.removed += 1
        self._put((address, stream, "[]", True))

    def _put(self, row: Incoming) -> None:
        self._buffer.append(row)
        if len(self._buffer) >= BATCH:
            self.flush()

    def _mark_mentioned(self, address: str) -> None:
        """Remember who is named but says nothing that counts: such a contact was not removed."""
        self._mentioned.append(address)
        if len(self._mentioned) >= BATCH:
            self.flush()
