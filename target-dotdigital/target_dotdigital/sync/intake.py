"""Collects the input: checks every record, writes desired labels to the ledger, and tracks what STATE covers."""

from __future__ import annotations

import collections
import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from target_dotdigital.errors import StreamError
from target_dotdigital.ledger.runs import update_scope
from target_dotdigital.models import InputStats
from target_dotdigital.text import is_address, normalise, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from target_dotdigital.ledger.contacts import ContactLedger, Incoming, Known
    from target_dotdigital.ledger.runs import Scope
    from target_dotdigital.settings import Settings
    from target_dotdigital.sync.labels import LabelEncoder, Labels

LOGGER = logging.getLogger("target-dotdigital")
RECORDS_PER_BATCH = 5_000
INVALID_ADDRESS = "no e-mail address"
INVALID_SEGMENTS = "no list of segments"
# in place of the JSON of the names
DROPPED = "dropped"
_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(list[str] | str).decode


class Activation(NamedTuple):
    """An ACTIVATE_VERSION.

    Args:
        version: version of the stream that it activates.
        follows: whether records of this version came before it, so that it proves that the stream is complete.
        states: number of STATE messages before it.
    """

    version: int
    follows: bool
    states: int


class Collector:
    """Writes the records of one run to the ledger, whose input has to be open.

    Args:
        ledger: the ledger scope.
        labels: reads names.
        encoder: turns names into payloads.
        settings: the settings.

    Attributes:
        intake: figures of the input.
        streams: streams with contacts that the input announces.
        sources: stream -> its name in the input and its STATE, if stream_maps renames it.
        marked: streams whose schema has `_sdc_deleted_at`.
    """

    def __init__(self, ledger: ContactLedger, labels: Labels, encoder: LabelEncoder, settings: Settings) -> None:
        self.intake = InputStats()
        self.streams: set[str] = set()
        self.sources: dict[str, str] = {}
        self.marked: set[str] = set()
        self.ledger = ledger
        self._labels = labels
        self._encoder = encoder
        self._on_removed = settings.on_removed
        self._is_excluded = settings.is_excluded
        # address; stream, JSON of the names, whether the contact was removed
        self._buffer: list[tuple[str, tuple[str, str, bool]]] = []
        self._activations: dict[str, Activation] = {}
        # versions of the records of each stream, the current one last
        self._versions: collections.defaultdict[str, list[int]] = collections.defaultdict(list)
        self._states = 0
        self._drops = False
        self._seen: collections.Counter[str] = collections.Counter()
        self._seen_at_state: collections.Counter[str] = collections.Counter()

    def add_record(self, stream: str, email: object, segments: object, *, deleted: bool) -> None:
        """Add one record whose types are not checked yet.

        Args:
            stream: name of the stream.
            email: the record's address property.
            segments: the record's segments property: an array of strings, or a text.
            deleted: whether the record marks the contact as removed.
        """
        texts = isinstance(segments, str) or (isinstance(segments, list) and all(isinstance(name, str) for name in segments))
        self.add_decoded(stream, _address(email), _text(segments) if texts else "null", deleted)

    def add_dropped(self, stream: str, email: object) -> None:
        """Add one record that a filter drops: if the ledger got the contact from this stream, it is removed; otherwise it is left alone."""
        self._drops = True
        self.add_decoded(stream, _address(email), DROPPED, False)  # noqa: FBT003 - positional, because it is called for every record

    def add_decoded(self, stream: str, email: str, segments: str, deleted: bool) -> None:  # noqa: FBT001 - called for every record
        """Add one record; `segments` is JSON of any type, and ignored if the contact was removed."""
        self._seen[stream] += 1
        self._buffer.append((email, (stream, "" if deleted else segments, deleted)))
        if len(self._buffer) >= RECORDS_PER_BATCH:
            self.flush()

    def begin_version(self, stream: str, version: int) -> None:
        """Record the version of the records that follow.

        A new version lists every contact of the stream again; contacts that are missing in it were removed.

        Raises:
            StreamError: the records go back to a version that another one has replaced.
        """
        versions = self._versions[stream]
        if versions and versions[-1] == version:
            return
        if version in versions:
            msg = (
                f"The records of the stream {shown(stream)!r} go back to a version that another one has replaced, so it is not known which "
                "contacts the stream has. Nothing was written, and the bookmark stays. Check the tap, or the program that joins its output."
            )
            raise StreamError(msg)
        if versions:
            self.flush()
            self.ledger.store_staged_input(self._encoder.payload_of)
            self.ledger.discard_stream_input(stream)
        versions.append(version)

    def on_activate_version(self, stream: str, version: int) -> None:
        """Process an ACTIVATE_VERSION: contacts of the stream without a record of this version were removed.

        After the records, the message means that the stream is complete. Before the records, the stream is complete only if the
        input is not truncated, that is, if a STATE follows the last record.
        """
        self.streams.add(stream)
        follows = self._seen[stream] > 0 and self._is_current(stream, version)
        self._activations[stream] = Activation(version, follows, self._states)

    def on_state(self) -> None:
        """Process a STATE: everything before it is complete."""
        self._states += 1
        self._seen_at_state = self._seen.copy()

    def finish(self) -> InputStats:
        """Write buffered records to the ledger, and update the desired labels from the input."""
        self.flush()
        self.ledger.count_staged()
        self.ledger.store_staged_input(self._encoder.payload_of)
        self.intake.read = self._seen.total()
        self.intake.distinct = self.ledger.input_count
        self.intake.dropped = self._encoder.dropped
        return self.intake

    @property
    def full_streams(self) -> dict[str, int]:
        """Streams whose contacts are all part of the input, and the version of each."""
        return {stream: found.version for stream, found in self._activations.items() if self._is_full(stream, found)}

    @property
    def is_full(self) -> bool:
        """Whether the input contains every contact of each of its streams."""
        return bool(self.streams) and self.streams <= self.full_streams.keys()

    @property
    def activated_streams(self) -> set[str]:
        """Streams for whose last version an ACTIVATE_VERSION came, before or after their records."""
        return {stream for stream, found in self._activations.items() if self._is_current(stream, found.version)}

    def version_of(self, stream: str) -> int | None:
        """Return the version of the last records of a stream; None if they have none."""
        versions = self._versions.get(stream)
        return versions[-1] if versions else None

    @property
    def streams_after_last_state(self) -> set[str]:
        """Streams whose last record came after the last STATE."""
        return {stream for stream, count in self._seen.items() if count > self._seen_at_state[stream]}

    def _is_current(self, stream: str, version: int) -> bool:
        return self.version_of(stream) in {None, version}

    def _is_full(self, stream: str, found: Activation) -> bool:
        ended = self._states > found.states and stream not in self.streams_after_last_state
        return self._is_current(stream, found.version) and (found.follows or ended)

    def remove_unmentioned(self) -> None:
        """Mark contacts that are missing in full streams as removed; requires that the account was read back before."""
        if self.is_full:
            update_scope(self.ledger.connection, self.ledger.scope, had_full_input=True)
        if self.full_streams and self._on_removed == "clear":
            self.intake.removed += self.ledger.remove_unmentioned(self.full_streams, self.streams - self.full_streams.keys())

    def flush(self) -> None:
        """Compare the buffered records with the ledger, or stage them for the end of the input."""
        records, self._buffer = self._buffer, []
        if not records:
            return
        addresses = [normalise(email) for email, _ in records]
        known = self.ledger.compare_in_order(addresses)
        # most records match the ledger, whose addresses are valid, so that these need no validation
        unchanged: Known = known if known and self._is_excluded is None else {}
        rows: list[Incoming] = []
        # addresses without usable labels: contacts that are in the input, and records that are left out
        mentioned: list[str] = []
        left_out: list[str] = []
        streams = self._streams_of(addresses, records, known) if self._drops else {}
        for address, (_, record) in zip(addresses, records, strict=True):
            if unchanged.get(address) == record:
                continue
            # the stream of a contact with labels that no stream has named yet is None
            if record[1] == DROPPED and streams.get(address, "") not in {record[0], None}:
                self.intake.excluded += 1
                left_out.append(address)
            elif not is_address(address) and not (self._is_excluded and self._is_excluded(address)):
                self._count_invalid_address(deleted=record[2])
                left_out.append(address)
            elif (row := self._row(address, *record)) is None:
                mentioned.append(address)
            elif known is None or known.get(address) != row[1:]:
                rows.append(row)
                if streams:
                    streams[address] = row[1]
        if known is None:
            self.ledger.stage_input(rows)
        else:
            named = set(addresses).difference(mentioned, left_out)
            self.ledger.store_input(rows, known, self._encoder.payload_of)
            self.ledger.record_batch(addresses[-1], len(named), known.keys() - named)
        self.ledger.mark_present(mentioned)

    def _streams_of(
        self, addresses: Sequence[str], records: Sequence[tuple[str, tuple[str, str, bool]]], known: Known | None
    ) -> dict[str, str | None]:
        """Return the earlier streams of the dropped contacts of a batch; contacts that are not in the ledger are left out."""
        dropped = [address for address, (_, record) in zip(addresses, records, strict=True) if record[1] == DROPPED]
        if known is not None:
            return {address: known[address][0] for address in dropped if address in known}
        found = self.ledger.streams_of([address for address in dropped if is_address(address)])
        # the batch may contain them before it drops them
        return dict.fromkeys(dropped, "") | found

    def _count_invalid_address(self, *, deleted: bool) -> None:
        if deleted:
            # a contact that was never delivered has nothing to remove
            self.intake.kept += 1
        else:
            self.intake.invalid[INVALID_ADDRESS] += 1

    def _row(self, address: str, stream: str, segments: str, deleted: bool) -> Incoming | None:  # noqa: FBT001 - unpacked from a tuple
        """Return the contact of a record; None if it has no usable labels."""
        if self._is_excluded is not None and self._is_excluded(address):
            self.intake.excluded += 1
            return None
        if deleted or segments == DROPPED:
            if self._on_removed == "keep":
                self.intake.kept += 1
                return None
            self.intake.removed += 1
            return (address, stream, "[]", True)
        try:
            names = self._labels.read(_decode(segments))
        except msgspec.ValidationError:
            names = None
        if names is None:
            # a missing list is not an empty list: treating it as one would clear all labels
            self.intake.invalid[INVALID_SEGMENTS] += 1
            return None
        return (address, stream, _text(sorted(set(names))), False)


def _address(email: object) -> str:
    return email if isinstance(email, str) else ""


def _text(names: object) -> str:
    return _encode(names).decode()


def relabel_if_settings_changed(ledger: ContactLedger, scope: Scope, settings: Settings, encoder: LabelEncoder) -> bool:
    """Recompute all desired labels, and what is pending, if the settings that determine them changed; return whether they did."""
    now = msgspec.json.encode({"uploads": settings.upload_emails, **asdict(settings.labels)}, order="sorted").decode()
    changed = scope.labels not in {None, now}
    if changed:
        LOGGER.info("Ledger: the label settings or upload_emails changed; recomputing the labels of every contact")
        ledger.recompute_labels(encoder.payload_of)
        # including rejected contacts: a deleted one that was matched by ID may now be created
        ledger.forget_rejected_labels()
        ledger.recompute_pending()
    update_scope(ledger.connection, ledger.scope, labels=now)
    return changed
