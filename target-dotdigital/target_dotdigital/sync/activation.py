"""The activation code, by which the operator approves what a review shows."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import msgspec

from target_dotdigital.errors import NotActivatedError
from target_dotdigital.text import shown

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from target_dotdigital.dotdigital.account import Account
    from target_dotdigital.ledger.runs import Scope
    from target_dotdigital.settings import Settings
    from target_dotdigital.sync.intake import Collector

MAX_SHOWN_STREAMS = 5


@dataclass(frozen=True, slots=True)
class Activation:
    """What the operator has approved for an account and settings."""

    settings: Settings
    account: Account

    def code(self, streams: Iterable[str]) -> str:
        """Return the code for account and settings, and the streams that feed the data field."""
        return f"{self._destination}-{stream_group(streams)}"

    @property
    def is_active(self) -> bool:
        """Whether the sync is activated for account and settings; the streams are only known when the input has ended."""
        return self._given.startswith(f"{self._destination}-")

    def covers(self, streams: Iterable[str]) -> bool:
        """Return whether the sync is activated for account, settings and exactly these streams."""
        return self._given == self.code(streams)

    def feeds(self, collector: Collector, scope: Scope, *, truncated: bool) -> AbstractSet[str] | None:
        """Return the streams that feed the data field with this input; None if the operator has not approved them.

        A full input may replace the streams that fed the data field before; any other adds to them.

        Args:
            collector: the input.
            scope: facts about the ledger scope from before the run.
            truncated: whether the input was truncated.
        """
        streams = collector.streams
        together = streams | scope.feeds.keys()
        alone = self.covers(streams)
        if streams and not alone and not self.covers(together):
            return None
        return streams if alone and collector.is_full and not truncated else together

    def review_needed(self, path: Path, streams: AbstractSet[str], feeds: str) -> NotActivatedError:
        """Return the error for a run that the operator has not activated.

        Args:
            path: where the review was written.
            streams: streams that would feed the data field.
            feeds: how they differ from the streams that fed the data field; empty if they do not.
        """
        code, given = self.code(streams), (self.settings.activation_code or "").strip()
        wrong = (
            f"The activation_code in the settings ({given}) is not the code of this review: it has a typo, or the account, address book, "
            "data field, label settings or streams changed since. "
            if given and not feeds
            else ""
        )
        msg = (
            f"Not activated: nothing was written. {feeds}{wrong}Read the review above ({path}). To switch the daily "
            f"sync on for exactly this, set the setting activation_code to {code} "
            f"(TARGET_DOTDIGITAL_ACTIVATION_CODE={code})"
        )
        return NotActivatedError(msg)

    @property
    def _given(self) -> str:
        return (self.settings.activation_code or "").strip().upper()

    @property
    def _destination(self) -> str:
        """The groups of the activation code that stand for account and settings."""
        settings = self.settings
        book: dict[str, int | str] | None = None
        if settings.has_address_book:
            # an address book may have the name "12"
            book = {"id": settings.address_book_id} if settings.address_book_id else {"name": settings.address_book.strip().lower()}
        text = _digest(
            {
                "account": self.account.id,
                "address book": book,
                "data field": settings.data_field.upper(),
                "upload": settings.upload_emails,
                "labels": asdict(settings.labels),
                "time": settings.synced_at_field,
                "removed": settings.on_removed,
            }
        )
        return f"{text[:4]}-{text[4:8]}"


def stream_group(streams: Iterable[str]) -> str:
    """Return the last group of the activation code, which stands for the streams."""
    return _digest(sorted(streams))[:4]


def changed_feeds(streams: Iterable[str], before: Iterable[str], missing: Iterable[str]) -> str:
    """Return how the streams of an input differ from the streams that fed the data field, as sentences; empty if they do not.

    Args:
        streams: streams with contacts that the input announces.
        before: streams that fed the data field before; none before the first delivery.
        missing: streams of which the ledger has contacts and that a full input does not announce.
    """
    before, sentences = sorted(before), []
    if before and (new := sorted(set(streams).difference(before))):
        sentences.append(
            f"The data field was never fed by {_listed(new)} before, only by {_listed(before)}: a new source would overwrite labels. If it "
            "is not meant for this data field, give it one of its own (data_field). "
        )
    if gone := sorted(missing):
        sentences.append(
            f"The input contains every contact of {_listed(streams)}, but it has no stream {_listed(gone)} any more, whose contacts would "
            "lose their labels. If the tap broke off, run again. "
        )
    return "".join(sentences)


def _listed(streams: Iterable[str]) -> str:
    names = [repr(shown(stream)) for stream in sorted(streams)]
    more = len(names) - MAX_SHOWN_STREAMS
    return ", ".join(names[:MAX_SHOWN_STREAMS]) + (f" and {more} more" if more > 0 else "")


def _digest(chosen: object) -> str:
    return base64.b32encode(hashlib.sha256(msgspec.json.encode(chosen, order="sorted")).digest()).decode()
