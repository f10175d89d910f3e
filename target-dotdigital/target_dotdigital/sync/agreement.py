"""Agreement of tap and ledger: whether the ledger has acknowledged the base of an input, and whether the input is complete."""

from __future__ import annotations

import datetime
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from target_dotdigital.errors import AgreementError, IncompleteInputError, StreamError
from target_dotdigital.ledger.runs import Bookmarks, Feed, digest_of, normal_form, update_scope
from target_dotdigital.settings import InputFilter
from target_dotdigital.text import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from collections.abc import Set as AbstractSet

    import sqlalchemy as sa

    from target_dotdigital.ledger.contacts import ContactLedger
    from target_dotdigital.ledger.runs import Scope
    from target_dotdigital.models import InputStats
    from target_dotdigital.settings import Settings
    from target_dotdigital.sync.intake import Collector


LOGGER = logging.getLogger("target-dotdigital")
# key of a bookmark, or of one of its partitions, for a stream that an SDK tap has not finished
PROGRESS = b'"progress_markers":'
# key by which a bookmark of tap-nosto-segments marks a full input in which contacts are missing
SKIPPED_LINES = "skipped_lines"
_encode = msgspec.json.encode


@dataclass(frozen=True, slots=True)
class StateSpan:
    """The first and the last STATE of an input.

    Args:
        begin: the STATE with which the input begins; None if it begins with another message.
        end: the last STATE; None if there is none.
        last_records: stream as the input calls it -> its last record.
    """

    begin: Any = None
    end: Any = None
    last_records: Mapping[str, Any] = field(default_factory=dict)

    @property
    def begins_at(self) -> str | None:
        """The digest of the bookmark that the input starts from; None if it starts without a bookmark."""
        return digest_of(self.begin)

    @property
    def ends_at(self) -> str | None:
        """The digest of the bookmark that the input leads to."""
        return digest_of(self.end)

    def is_in_progress(self, stream: str) -> bool:
        """Return whether the last STATE was sent while an SDK tap was still reading a stream whose records have no order."""
        parts = _parts(self.end)
        return self.end != self.begin and stream in parts and PROGRESS in _encode(parts[stream])

    def has_bookmark(self, stream: str, *, at_end: bool = False) -> bool:
        """Return whether the first or the last STATE has a bookmark for a stream."""
        return normal_form(_bookmark_of(self.end if at_end else self.begin, stream)) is not None

    def skips_lines(self, stream: str) -> bool:
        """Return whether the bookmark marks skipped lines, so that a contact missing in the input may still be in the source."""
        bookmark = _bookmark_of(self.end, stream)
        return isinstance(bookmark, dict) and bookmark.get(SKIPPED_LINES) is True

    def is_beyond(self, stream: str) -> bool:
        """Return whether the last record of a stream is newer than its bookmark in the last STATE, so that a STATE should have followed."""
        bookmark, record = _bookmark_of(self.end, stream), self.last_records.get(stream)
        if not isinstance(bookmark, dict) or not isinstance(record, dict):
            return False
        key = bookmark.get("replication_key")
        value, last = _comparable(bookmark.get("replication_key_value")), _comparable(record.get(key))
        if value is None or last is None or isinstance(value, datetime.datetime) is not isinstance(last, datetime.datetime):
            return False
        return bool(last > value)


def _parts(state: Any) -> dict[str, Any]:
    """Return the parts of a STATE by stream, as SDK taps write them."""
    bookmarks = state.get("bookmarks") if isinstance(state, dict) else None
    return bookmarks if isinstance(bookmarks, dict) else {}


def _bookmark_of(state: Any, stream: str) -> Any:
    """Return the part of a STATE that concerns a stream: the whole, if it has no part for the stream."""
    return _parts(state).get(stream, state)


def _comparable(value: Any) -> Any:
    """Return a replication value that has an order: a number or a time; None for any other."""
    if isinstance(value, str):
        try:
            time = datetime.datetime.fromisoformat(value)
        except ValueError:
            return None
        return time if time.tzinfo else time.replace(tzinfo=datetime.UTC)
    return value if type(value) in {int, float} else None


def truncation(states: StateSpan, collector: Collector, ledger: ContactLedger, scope: Scope, *, has_skipped: bool) -> str | None:
    """Return how the messages show that the input was truncated, as a clause; None if they do not show it.

    Without STATE, or with a STATE without a bookmark, the end of an input cannot be recognised. An SDK tap does not repeat a STATE
    that has not changed, and sends the record at the bookmark once more. A record after the last STATE therefore indicates truncation
    only if it is newer than the bookmark, if it changed a contact, or if the last input from the same bookmark was truncated.

    Args:
        states: the first and the last STATE of the input.
        collector: the input.
        ledger: the ledger scope.
        scope: the facts about it from before the run.
        has_skipped: whether the input has streams without contacts.
    """
    if states.begin is not None and not collector.streams and not has_skipped:
        # SDK taps send their starting STATE first, and then a SCHEMA in any case
        return "it ended after the STATE that it starts from"
    for stream in sorted(collector.streams):
        name, source = shown(stream), collector.sources.get(stream, stream)
        feed, version = scope.feeds.get(stream, Feed()), collector.version_of(stream)
        activates = feed.version is not None and not states.has_bookmark(source) and not states.skips_lines(source)
        announced = version is not None or activates
        # a log-based tap keeps using the version that it activated once
        if announced and stream not in collector.activated_streams and version != feed.version:
            return (
                f"the stream {name!r} ended without the ACTIVATE_VERSION of its records. Either the tap broke off, or a mapper or another "
                "program between tap and target drops this message, so that contacts which the source no longer has cannot be recognised"
            )
        if states.is_in_progress(source):
            return f"its last STATE says that the stream {name!r} is still in progress, so the tap broke off"
    after = sorted(collector.streams_after_last_state)
    changed = ledger.changed_streams() if after and states.end is not None else set[str]()
    for stream in after:
        source = collector.sources.get(stream, stream)
        if states.end is None:
            ended = stream not in scope.streams
        else:
            ended = not states.has_bookmark(source, at_end=True) or not (
                stream in changed or states.is_beyond(source) or states.begins_at is None or scope.truncated == states.begins_at
            )
        if not ended:
            return f"it ended without a STATE behind the last record of the stream {shown(stream)!r}, so the tap broke off"
    return None


def require_complete(truncated: str | None, done: str) -> None:
    """Stop a run after its delivery if its input was truncated.

    Args:
        truncated: how the messages show that the input was truncated, as a clause; None if they do not show it.
        done: what was done with the input, as a clause.

    Raises:
        IncompleteInputError: the input was truncated.
    """
    if truncated is not None:
        msg = (
            f"The input is incomplete: {truncated}. {done}; contacts that it does not mention keep their labels, the bookmark stays, and "
            "the next run gets the rest. The tap's own message may say more."
        )
        raise IncompleteInputError(msg)


def require_agreement(
    states: StateSpan, collector: Collector, ledger: ContactLedger, scope: Scope, *, truncated: bool
) -> int | None:
    """Require that the ledger has acknowledged the bookmark that the input starts from.

    Args:
        states: the first and the last STATE of the input.
        collector: the input.
        ledger: the ledger scope.
        scope: the facts about it from before the run.
        truncated: whether the input was truncated, so that contacts may be missing in it.

    Returns:
        The run that acknowledged the bookmark that the input starts from; None for an input without a bookmark.

    Raises:
        AgreementError: the ledger has not, or contacts that changed after that bookmark are missing in the input.
    """
    begin = states.begins_at
    if begin is None or collector.is_full:
        return None
    bookmarks = Bookmarks(ledger.connection, ledger.scope)
    since = bookmarks.run_of(begin)
    if since is None:
        latest = bookmarks.latest()
        reason = (
            f"the last bookmark that it acknowledged, on {latest[:10]}, is another one: the ledger was restored from a backup, or the "
            "STATE is that of another machine or pipeline"
            if latest
            else "it has not acknowledged any: the ledger is new or lost, a run was restored, an address was forgotten whose delivery was "
            "outstanding, or the data field or a setting changed that decides what is used of the input (exclude_emails, on_removed, "
            "stream_maps, the properties)"
        )
        raise AgreementError(_disagreement("starts from a bookmark that this ledger has never acknowledged", reason))
    may_miss = scope.changed_run > since and not truncated
    # a contact that is missing in a full stream was removed
    if may_miss and (missed := ledger.count_missing_since(since, collector.streams - collector.full_streams.keys())):
        reason = "the tap's snapshots or its STATE were restored from a backup"
        raise AgreementError(_disagreement(f"does not mention {missed} contacts that changed since its bookmark", reason))
    return since


def require_no_skipped_contacts(ledger: ContactLedger, skipped: Mapping[str, str]) -> None:
    """Require that no stream is skipped whose contacts are in the ledger: they would keep old labels, or lose them.

    Args:
        ledger: the ledger scope.
        skipped: streams without contacts, and the reason for each.

    Raises:
        StreamError: the ledger holds contacts of a skipped stream.
    """
    for stream, lack in skipped.items():
        if ledger.has_stream(stream):
            msg = (
                f"{lack}, but an earlier run got contacts from it: their labels would be wrong from now on. Nothing was written, and the "
                "bookmark stays. Check the tap, or deselect the stream and run once with --full-refresh, which clears the labels of "
                "contacts that no other stream has."
            )
            raise StreamError(msg)


def require_readable(stats: InputStats) -> None:
    """Require that most records of the input can be used: otherwise the input as a whole is wrong.

    Raises:
        StreamError: more than half of the records are left out as invalid.
    """
    invalid = stats.invalid.total()
    if invalid * 2 > stats.read:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in stats.invalid.most_common())
        msg = (
            f"{invalid:,} of the {stats.read:,} records of the input are left out as invalid ({reasons}): with most of it missing, the "
            "input is not delivered. Nothing was written, and the bookmark stays. Check email_property and segments_property, and what "
            "stream_maps, a mapper or the tap does to the two properties."
        )
        raise StreamError(msg)


def require_marks(collector: Collector, scope: Scope) -> None:
    """Require that the input can mark removed contacts where earlier ones could.

    Raises:
        StreamError: the schema of a stream has lost `_sdc_deleted_at`, and the input does not contain all contacts of the stream.
    """
    lost = {stream for stream in collector.streams - collector.marked if stream in scope.feeds and scope.feeds[stream].marks}
    for stream in sorted(lost - collector.full_streams.keys()):
        msg = (
            f"The stream {shown(stream)!r} has no property '_sdc_deleted_at' any more: its schema had it before, and without it a contact "
            "that was removed looks like one in no segment, or is not mentioned at all. Nothing was written, and the bookmark stays. "
            "Select the property in the tap, and check the mappers between tap and target. For another source, give the stream another "
            "name (__alias__ in stream_maps)."
        )
        raise StreamError(msg)


def missing_feeds(collector: Collector, ledger: ContactLedger, scope: Scope) -> set[str]:
    """Return the streams that fed the data field before, of which the ledger has contacts, and that the input does not announce."""
    return {stream for stream in scope.feeds.keys() - collector.streams if ledger.has_stream(stream)}


def keep_feeds(collector: Collector, connection: sa.Connection, scope: Scope, streams: Iterable[str], *, truncated: bool) -> None:
    """Store which streams feed the data field.

    Args:
        collector: the input.
        connection: the transaction of the run.
        scope: the facts about the ledger scope from before the run.
        streams: streams that the operator has approved.
        truncated: whether the input was truncated, so that no version counts as complete.
    """
    feeds = {}
    for stream in sorted(streams):
        feed = scope.feeds.get(stream, Feed())
        version = feed.version if truncated else collector.full_streams.get(stream, feed.version)
        feeds[stream] = Feed(version=version, marks=feed.marks or stream in collector.marked)
    update_scope(connection, scope.id, feeds=_encode(feeds).decode())


def invalidate_on_wider_filter(connection: sa.Connection, scope: Scope, settings: Settings) -> bool:
    """Withdraw every bookmark if the settings now use more records of the input than in the last run, and return whether they do.

    Records that were left out under the earlier settings are part of what these bookmarks stand for, but not of the ledger.
    """
    input_filter, before = settings.input_filter, scope.input_filter
    is_wider = before is not None and input_filter.is_wider_than(msgspec.json.decode(before, type=InputFilter))
    if is_wider:
        LOGGER.warning(
            "exclude_emails, on_removed, stream_maps or the properties changed: records that earlier runs left out are used now, so the "
            "input has to name every contact once (--full-refresh)."
        )
        Bookmarks(connection, scope.id).withdraw()
    update_scope(connection, scope.id, input_filter=msgspec.json.encode(input_filter).decode())
    return is_wider


def acknowledge(states: StateSpan, collector: Collector, ledger: ContactLedger, scope: Scope, now: datetime.datetime) -> None:
    """Acknowledge the bookmark up to which everything is in the ledger; older ones stay valid, because STATE may be restored.

    Args:
        states: the first and the last STATE of the input.
        collector: the input.
        ledger: the ledger scope.
        scope: the facts about it from before the run.
        now: the time, in UTC.
    """
    if states.ends_at is None:
        return
    streams = scope.streams | collector.streams
    update_scope(ledger.connection, ledger.scope, streams=msgspec.json.encode(sorted(streams)).decode())
    if states.ends_at != states.begins_at or collector.is_full:
        Bookmarks(ledger.connection, ledger.scope).acknowledge(states.ends_at, ledger.run, now)


def bookmark_values(state: Any, streams: AbstractSet[str]) -> dict[str, str | int | float]:
    """Return the replication values of the streams of an input as its last STATE has them: for a sync, the source's own time.

    Values that could be an address are left out, because lists of runs must not show addresses.
    """
    bookmarks = state.get("bookmarks") if isinstance(state, dict) else None
    if not isinstance(bookmarks, dict):
        return {}
    values = {
        stream: bookmarks[stream].get("replication_key_value")
        for stream in sorted(streams)
        if isinstance(bookmarks.get(stream), dict)
    }
    return {
        shown(stream): shown(value) if isinstance(value, str) else value
        for stream, value in values.items()
        if type(value) in {int, float} or (isinstance(value, str) and value and "@" not in value)
    }


def _disagreement(what: str, reason: str) -> str:
    return (
        f"The input {what}. It holds only what changed, and applied to an unknown base it would leave wrong labels, so nothing was "
        f"written and the bookmark stays. Run once with --full-refresh: everything is then compared with what dotdigital holds, and only "
        f"what differs is sent. Cause: {reason}."
    )
