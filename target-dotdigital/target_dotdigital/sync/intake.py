"""Collects the input: checks every record, writes desired labels to the ledger, and tracks what STATE covers."""

from __future__ import annotations

import collections
import logging
from dataclasses import asdict
from typing import TYPE_CHECKING

import msgspec

from target_dotdigital.addresses import is_address, normalise
from target_dotdigital.ledger.scopes import update_scope
from target_dotdigital.stats import InputStats

if TYPE_CHECKING:
    from target_dotdigital.ledger.contacts import ContactLedger, Incoming, Known
    from target_dotdigital.ledger.scopes import Scope
    from target_dotdigital.settings import Settings
    from target_dotdigital.sync.labels import LabelEncoder, Labels

LOGGER = logging.getLogger("target-dotdigital")
BATCH = 5_000
INVALID_ADDRESS = "no e-mail address"
INVALID_SEGMENTS = "no list of segments"
_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(list[str] | str).decode


class Collector:
    """Writes the records of one run to the ledger, whose input has to be open.

    Args:
        ledger: the ledger scope.
        labels: turns names into values.
        encoder: turns names into payloads.
        settings: the settings.
    """

    def __init__(self, ledger: ContactLedger, labels: Labels, encoder: LabelEncoder, settings: Settings) -> None:
        """Start the input of a run."""
        self.intake = InputStats()
        self.streams: set[str] = set()
        self.ledger = ledger
        self._labels = labels
        self._encoder = encoder
        self._on_removed = settings.on_removed
        self._is_excluded = settings.is_excluded
        # address; stream, JSON of the names, whether the contact was removed
        self._buffer: list[tuple[str, tuple[str, str, bool]]] = []
        self._versions: set[str] = set()
        self._early: dict[str, bool] = {}
        self._versioned: set[str] = set()
        self._seen: collections.Counter[str] = collections.Counter()
        self._seen_at_state: collections.Counter[str] = collections.Counter()

    def add(self, stream: str, email: object, segments: object, *, deleted: bool) -> None:
        """Add one record whose types are not checked yet.

        Args:
            stream: name of the stream.
            email: the record's address property.
            segments: the record's segments property: an array of strings, or a delimited string.
            deleted: whether the record marks the contact as removed.
        """
        texts = isinstance(segments, str) or (isinstance(segments, list) and all(isinstance(name, str) for name in segments))
        self.take(stream, email if isinstance(email, str) else "", _text(segments) if texts else "null", deleted)

    def take(self, stream: str, email: str, segments: str, deleted: bool) -> None:  # noqa: FBT001 - the quick way
        """Add one record; `segments` is JSON of any type, which does not matter if the contact was removed."""
        self._seen[stream] += 1
        if self._early:
            self._early[stream] = False
        self._buffer.append((email, (stream, "" if deleted else segments, deleted)))
        if len(self._buffer) >= BATCH:
            self.flush()

    def expect_version(self, stream: str) -> None:
        """Record that a stream is versioned, so that it is complete only after its ACTIVATE_VERSION."""
        self._versioned.add(stream)

    def activate(self, stream: str) -> None:
        """Process an ACTIVATE_VERSION: contacts of the stream that this run does not name were removed.

        After the records, the message means that the stream is complete. Before the records, the stream is complete only if the
        input does not break off, that is, if a STATE follows the last record.
        """
        self.streams.add(stream)
        if self._seen[stream]:
            self._versions.add(stream)
        else:
            self._early[stream] = False

    def state(self) -> None:
        """Process a STATE: everything before it is complete."""
        self._early = dict.fromkeys(self._early, True)
        self._seen_at_state = self._seen.copy()

    def finish(self) -> InputStats:
        """Write buffered records to the ledger, and update the desired labels from the input."""
        self.flush()
        self.ledger.count_staged()
        self.ledger.desire_staged(self._encoder.payload_of)
        self.intake.read = self._seen.total()
        self.intake.distinct = self.ledger.named
        self.intake.dropped = self._encoder.dropped
        return self.intake

    @property
    def whole(self) -> set[str]:
        """Streams whose contacts are all part of the input."""
        return self._versions | {stream for stream, whole in self._early.items() if whole}

    @property
    def is_whole(self) -> bool:
        """Whether the input contains every contact of each of its streams."""
        return bool(self.streams) and self.streams <= self.whole

    @property
    def unactivated(self) -> bool:
        """Whether records belong to a version that was never activated, which means that the input broke off."""
        return bool(self._versioned - self._versions - self._early.keys())

    @property
    def after_state(self) -> set[str]:
        """Streams whose last record came after the last STATE."""
        return {stream for stream, count in self._seen.items() if count > self._seen_at_state[stream]}

    def remove_unmentioned(self) -> None:
        """Mark contacts as removed that the complete streams do not name; requires that the account was read back before."""
        if not self.whole:
            return
        update_scope(self.ledger.connection, self.ledger.scope, whole=True)
        if self._on_removed == "clear":
            self.intake.removed += self.ledger.remove_unmentioned(self.whole, self.streams - self.whole)

    def flush(self) -> None:
        """Compare the buffered records with the ledger, or stage them for the end of the input."""
        records, self._buffer = self._buffer, []
        if not records:
            return
        addresses = [normalise(email) for email, _ in records]
        known = self.ledger.read_along(addresses)
        # most records are what the ledger has, and whatever it has is an address
        unchanged: Known = known if known and self._is_excluded is None else {}
        rows: list[Incoming] = []
        mentioned: list[str] = []
        invalid: list[str] = []
        for address, (_, record) in zip(addresses, records, strict=True):
            if unchanged.get(address) == record:
                continue
            if not is_address(address):
                invalid.append(address)
            elif (row := self._row(address, *record)) is None:
                mentioned.append(address)
            elif known is None or known.get(address) != row[1:]:
                rows.append(row)
        if known is None:
            self.ledger.stage_input(rows)
        else:
            named = set(addresses).difference(mentioned, invalid)
            self.ledger.desire(rows, known, self._encoder.payload_of)
            self.ledger.note_named(addresses[-1], len(named), known.keys() - named)
        self.ledger.mark_mentioned(mentioned)
        if invalid:
            self.intake.invalid[INVALID_ADDRESS] += len(invalid)

    def _row(self, address: str, stream: str, segments: str, deleted: bool) -> Incoming | None:  # noqa: FBT001 - as in the buffer
        """Return what a record says about a contact; None if it mentions the contact without usable labels."""
        if self._is_excluded is not None and self._is_excluded(address):
            self.intake.excluded += 1
            return None
        if deleted:
            if self._on_removed == "keep":
                self.intake.kept += 1
                return None
            self.intake.removed += 1
            return (address, stream, "[]", True)
        try:
            names = _decode(segments)
        except msgspec.ValidationError:
            # a missing list is not an empty list: treating it as one would clear all labels
            self.intake.invalid[INVALID_SEGMENTS] += 1
            return None
        return (address, stream, _text(sorted(set(self._labels.split(names) if isinstance(names, str) else names))), False)


def _text(names: object) -> str:
    return _encode(names).decode()


def keep_labels_current(ledger: ContactLedger, scope: Scope, settings: Settings, encoder: LabelEncoder) -> bool:
    """Recompute all desired labels, and what is pending, if the settings that decide over them changed; return whether they did."""
    now = msgspec.json.encode({"uploads": settings.upload_emails, **asdict(settings.labels)}, order="sorted").decode()
    changed = scope.labels not in {None, now}
    if changed:
        LOGGER.info("Ledger: the label settings or upload_emails changed; recomputing the labels of every contact")
        ledger.relabel(encoder.payload_of)
        # also what was rejected: a deleted contact, matched by ID before, may be created now
        ledger.forget_rejected_labels()
        ledger.recompute_pending()
    update_scope(ledger.connection, ledger.scope, labels=now)
    return changed
