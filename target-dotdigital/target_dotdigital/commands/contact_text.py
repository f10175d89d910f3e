"""Shows the facts about a contact as text and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from target_dotdigital.commands.reading import place_of
from target_dotdigital.commands.tables import iso, labels, labels_text, moment, table
from target_dotdigital.ledger.imports import ImportState
from target_dotdigital.texts import without_controls

if TYPE_CHECKING:
    from collections.abc import Iterator

    from target_dotdigital.commands.contact_facts import ContactFacts
    from target_dotdigital.dotdigital.live import LiveContact
    from target_dotdigital.ledger.imports import DeliveryRecord

DELIVERIES = ("Run", "Sent (UTC)", "Before", "After", "Outcome", "Import")
# what became of the rows of an import that did not finish
UNFINISHED = {
    ImportState.SUBMITTING: "unconfirmed, dotdigital's answer was not received",
    ImportState.OPEN: "not known yet",
    ImportState.FAILED: "unconfirmed, the import failed",
    ImportState.REJECTED: "held, the Data Watchdog rejected the import",
    ImportState.OVER_QUOTA: "unconfirmed, the account's contact limit was reached",
    ImportState.LOST: "unconfirmed, the import's result is not known",
}


def contact_lines(facts: ContactFacts) -> Iterator[str]:
    """Yield the lines that show what a ledger scope knows about a contact."""
    contact = facts.contact
    if not facts.configured:
        yield ""
        yield f"Also known:   {place_of(facts.scope)} (not what the settings name)"
        yield f"Status:       {facts.status.code}. {facts.status.text}"
        yield f"Labels:       {labels_text(contact.desired)} desired, {labels_text(contact.confirmed)} confirmed"
        return
    yield f"Destination:  account {facts.scope.account_id}, {place_of(facts.scope)}"
    yield f"Status:       {facts.status.code}. {facts.status.text}"
    yield f"Source:       {_source(facts)}"
    yield f"Desired:      {labels_text(contact.desired)}"
    yield f"Confirmed:    {labels_text(contact.confirmed)}"
    yield f"dotdigital:   {_remote(facts)}"
    if contact.rejection is not None:
        yield (
            f"Rejections:   {contact.rejections} in a row; {contact.rejection} since {moment(contact.rejected_since)}, last "
            f"{moment(contact.rejected_at)} UTC"
        )
    if contact.restored is not None:
        yield f"Restored:     run {contact.restored} put back the labels that another run had replaced"
    kept = "" if facts.kept_since is None else f" (kept since {moment(facts.kept_since)} UTC)"
    if not facts.deliveries:
        yield f"Deliveries:   none{kept}"
        return
    yield f"Deliveries, newest first{kept}:"
    rows = [
        [
            str(one.run),
            moment(one.submitted_at),
            labels_text(one.before),
            labels_text(one.after),
            _outcome(one),
            one.import_id or "-",
        ]
        for one in facts.deliveries
    ]
    for line in table(DELIVERIES, rows, numbers=(0,)):
        yield f"  {line}"


def live_lines(live: LiveContact | None, known: ContactFacts | None) -> Iterator[str]:
    """Yield the lines that show what dotdigital holds now.

    Args:
        live: the contact; None if there is none.
        known: what the ledger knows about it for the configured data field; None if it does not know it.
    """
    if live is None:
        yield "Live:         not in dotdigital"
    else:
        book = {True: "in the address book", False: "not in the address book", None: "no address book"}[live.in_address_book]
        yield f"Live:         {labels_text(live.payload)}; {book}; e-mail status {live.email_status or 'not known'}"
    confirmed = known.contact.confirmed if known else None
    if known and confirmed is not None and confirmed != (live.payload if live else None):
        yield (
            "Drift:        dotdigital does not hold the confirmed labels: somebody changed or deleted the contact there, or a run is "
            "working. The command reconcile finds it, and the next run puts it right."
        )


def contact_json(facts: ContactFacts) -> dict[str, Any]:
    """Return what a ledger scope knows about a contact as JSON values; times are ISO 8601 in UTC."""
    contact, changed = facts.contact, facts.changed
    return {
        "account_id": facts.scope.account_id,
        "address_book": facts.scope.address_book,
        "data_field": facts.scope.data_field,
        "configured": facts.configured,
        "status": facts.status.code,
        "explanation": facts.status.text,
        "source": {
            "stream": contact.stream,
            "segments": None if contact.names is None else msgspec.json.decode(contact.names),
            "removed": contact.removed,
            "run": contact.changed_run,
            "run_started_at": changed.started_at if changed else None,
            "bookmarks": changed.figures.bookmarks if changed and changed.figures else {},
        },
        "desired": labels(contact.desired),
        "confirmed": labels(contact.confirmed),
        "pending": contact.pending,
        "result_unknown": contact.result_unknown,
        "held_import": contact.held_import_id,
        "contact_id": contact.contact_id,
        "in_address_book": None if facts.scope.address_book is None else contact.in_address_book,
        "read_back_run": contact.checked_run,
        "restored_run": contact.restored,
        "rejection": None
        if contact.rejection is None
        else {
            "code": contact.rejection,
            "count": contact.rejections,
            "since": iso(contact.rejected_since),
            "last": iso(contact.rejected_at),
            "next_attempt": iso(contact.retry_at),
        },
        "deliveries_kept_since": iso(facts.kept_since),
        "deliveries": [
            {
                "run": one.run,
                "run_started_at": one.started_at,
                "sent_at": iso(one.submitted_at),
                "import_id": one.import_id,
                "before": labels(one.before),
                "after": labels(one.after),
                "outcome": _outcome(one),
                "settled_run": one.result_run,
            }
            for one in facts.deliveries
        ],
    }


def live_json(live: LiveContact | None) -> dict[str, Any] | None:
    """Return what dotdigital holds now as JSON values."""
    if live is None:
        return None
    return {
        "contact_id": live.contact_id,
        "labels": labels(live.payload),
        "in_address_book": live.in_address_book,
        "email_status": live.email_status,
    }


def _source(facts: ContactFacts) -> str:
    contact, run = facts.contact, facts.changed
    if contact.stream is None:
        what = "never named by a stream; its labels were read back from dotdigital"
    elif contact.removed:
        what = f"removed (stream {without_controls(contact.stream)})"
    elif contact.names is None:
        what = f"in the source (stream {without_controls(contact.stream)}), but its labels were put back by a restore"
    else:
        names = without_controls(", ".join(msgspec.json.decode(contact.names, type=list[str]))) or "in no chosen segment"
        what = f"{names} (stream {without_controls(contact.stream)})"
    if run is None:
        return what if contact.changed_run is None else f"{what}; since run {contact.changed_run}, which is older than history_days"
    read = f", source at {', '.join(map(str, run.figures.bookmarks.values()))}" if run.figures and run.figures.bookmarks else ""
    return f"{what}; since run {run.run} of {moment(run.started_at)} UTC{read}"


def _remote(facts: ContactFacts) -> str:
    contact = facts.contact
    known = f"contact ID {contact.contact_id}" if contact.contact_id is not None else "no contact ID known"
    if facts.scope.address_book is None:
        book = "no address book is used"
    else:
        tried = (
            f", although dotdigital confirmed {contact.membership_tries} deliveries to it" if contact.membership_tries > 1 else ""
        )
        book = "in the address book" if contact.in_address_book else f"not in the address book{tried}"
    read = f"; last read back by run {contact.checked_run}" if contact.checked_run is not None else ""
    return f"{known}; {book}{read}"


def _outcome(one: DeliveryRecord) -> str:
    if one.state != ImportState.FINISHED:
        return UNFINISHED.get(ImportState(one.state), one.state)
    if one.outcome is None:
        return "created or updated"
    return f"{one.outcome} ({one.reason})" if one.reason else one.outcome
