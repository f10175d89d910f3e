"""What can be checked without writing: the list of contacts, rate limits, programs."""

from __future__ import annotations

import datetime
from http import HTTPStatus
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from target_dotdigital.dotdigital import account as accounts
from target_dotdigital.dotdigital.messages import ContactReference
from target_dotdigital.errors import ApiError, EndlessListError
from target_dotdigital.rehearsal.result import Finding, confirmed, judged, not_tested, refuted
from target_dotdigital.sync.readback import MARGIN

if TYPE_CHECKING:
    from target_dotdigital.dotdigital.client import Client
    from target_dotdigital.dotdigital.contacts import ContactReader
    from target_dotdigital.dotdigital.full_contacts import ContactRecords, Record
    from target_dotdigital.rehearsal.recording import RecordingClient

MAX_PAGES = 5
# an address book of a rehearsal has few contacts
BOOK_PAGE = 100
# an account has more new contacts than this only while somebody imports many
MAX_NEW_PAGES = 2
# contacts with the lowest IDs, among which some were created before the rehearsal
FIRST_CONTACTS = 100


class _Dated(ContactReference, kw_only=True):
    created: str | None = None


class _Page(msgspec.Struct):
    items: list[_Dated] = msgspec.field(name="_items")


def pages(records: ContactRecords, known: int) -> Finding:
    """Follow the first pages of the list of contacts, one contact each.

    Args:
        records: reads contacts.
        known: number of contacts that the account has at least.
    """
    marker, highest, read = "", 0, 0
    for _ in range(MAX_PAGES):
        page = records.page(1, marker)
        ids = [record.contact_id or 0 for record in page.records]
        if ids and min(ids) <= highest:
            return refuted(
                "read_back_pages", f"Page {read + 1} repeats a contact of an earlier page, or is not in ascending order."
            )
        read += len(ids)
        highest = max([highest, *ids])
        marker = page.marker
        if not marker:
            break
    if known < 2:  # noqa: PLR2004 - a second page needs a second contact
        return not_tested("read_back_pages", "The account has fewer than two contacts that the rehearsal knows of.")
    if not marker and read < known:
        return refuted("read_back_pages", f"The list ended after {read} contacts, but the account has at least {known}.")
    return confirmed("read_back_pages", f"{read} pages with one new contact each, in ascending order.")


def lists(records: ContactRecords, book: int | None, members: set[int]) -> list[Finding]:
    """List the contacts of the rehearsal's address book.

    Args:
        records: reads contacts.
        book: ID of the address book; None if it does not exist.
        members: IDs of the operator's contacts that are in it.
    """
    if book is None or not members:
        reason = "None of your contacts is in the rehearsal's address book."
        return [not_tested("lists_in_read_back", reason), not_tested("filter_by_list", reason)]
    page = records.page(BOOK_PAGE, "", book)
    for _ in range(MAX_PAGES):
        if page.records or not page.marker:
            break
        page = records.page(BOOK_PAGE, page.marker, book)
    return [_shown_lists(page.records, book, members), _filtered(page.records, book, members, complete=not page.marker)]


def _shown_lists(listed: list[Record], book: int, members: set[int]) -> Finding:
    own = [record for record in listed if record.contact_id in members]
    if not own:
        return not_tested("lists_in_read_back", "None of your contacts was among the listed ones.")
    shown = sum(book in (record.lists or ()) for record in own)
    return judged(
        "lists_in_read_back",
        f"{shown} of {len(own)} contacts in the address book were listed with it.",
        holds=shown == len(own),
    )


def _filtered(listed: list[Record], book: int, members: set[int], *, complete: bool) -> Finding:
    strangers = [record for record in listed if record.contact_id not in members]
    outside = sum(record.lists is not None and book not in record.lists for record in strangers)
    if outside:
        return refuted("filter_by_list", f"{outside} of {len(listed)} listed contacts are not in the address book.")
    missing = members - {record.contact_id for record in listed}
    if missing and complete:
        return refuted("filter_by_list", f"{len(missing)} of {len(members)} contacts in the address book were not listed.")
    if missing or any(record.lists is None for record in strangers):
        return not_tested("filter_by_list", "The listed contacts could not be compared with those in the address book.")
    return confirmed(
        "filter_by_list", f"All {len(members)} of your contacts in the address book were listed, and no contact outside it."
    )


def created(reader: ContactReader, started_at: datetime.datetime, new: set[int]) -> Finding:
    """List the contacts that were created since the rehearsal began, as a run does since the run before.

    Args:
        reader: reads contacts as the sync does.
        started_at: time at which the rehearsal was confirmed (UTC).
        new: IDs of the contacts that the rehearsal has created, at least one.
    """
    # dotdigital's clock decides; this machine's may be ahead
    since = started_at + datetime.timedelta(seconds=min(reader.client.ahead, 0.0)) - MARGIN
    earlier = _created_before(reader.client, since)
    try:
        found = list(islice((page for page in reader.pages(since) if page), MAX_NEW_PAGES))
    except EndlessListError:
        return not_tested("filter_by_creation", "The listed contacts could not be read, because the pages repeat.")
    except ApiError as error:
        if error.status != HTTPStatus.BAD_REQUEST:
            raise
        return refuted(
            "filter_by_creation",
            "dotdigital does not accept the filter (status 400).",
            "Do not activate: every run but one with --full-refresh would fail. Report it to dotdigital's support.",
        )
    listed = {contact.contact_id for page in found for contact in page}
    if shown := earlier & listed:
        return refuted(
            "filter_by_creation",
            f"Contacts that were created earlier than {since:%Y-%m-%d %H:%M} UTC were listed: {len(shown)} of {len(earlier)}.",
            "You can activate, but every run reads the whole account. Report it to dotdigital's support.",
        )
    missing = new - listed
    if missing and len(found) == MAX_NEW_PAGES:
        return not_tested("filter_by_creation", "The account has more new contacts than the rehearsal reads.")
    left_out = f"Earlier contacts that were listed: 0 of {len(earlier)}." if earlier else "The account showed no earlier contact."
    return judged(
        "filter_by_creation",
        f"Contacts of the rehearsal that were listed: {len(new) - len(missing)} of {len(new)}. {left_out}",
        holds=not missing,
    )


def _created_before(client: Client, since: datetime.datetime) -> set[int]:
    """Return which of the account's first contacts were created before a time: IDs, without contacts that the reader leaves out."""
    items = client.get("contacts", "/contacts/v3", _Page, limit=FIRST_CONTACTS).items
    return {one.contact_id for one in items if one.contact_id and one.identifiers.email and _is_before(one.created, since)}


def _is_before(created: str | None, since: datetime.datetime) -> bool:
    try:
        time = datetime.datetime.fromisoformat(created or "")
    except ValueError:
        return False
    return (time if time.tzinfo else time.replace(tzinfo=datetime.UTC)) < since


def programs(client: RecordingClient) -> Finding:
    """List the active programs."""
    names = accounts.active_programs(client)
    if names is None:
        return refuted("programs_visible", "The API user may not list programs (status 403).")
    shown = f": {', '.join(names)}" if names else ""
    return confirmed("programs_visible", f"{len(names)} active {'program' if len(names) == 1 else 'programs'}{shown}.")


def rate_limits(client: RecordingClient) -> Finding:
    """Name the rate limits that the responses have announced."""
    if not client.limits:
        return refuted("rate_limit_headers", "No response had rate-limit headers with a scope and a limit.")
    limits = ", ".join(f"{scope} {limit:,} calls a minute" for scope, limit in sorted(client.limits.items()))
    own = client.limit_of("import") or client.limit_of("contacts")
    tier = f" Imports and reads of contacts belong to {own[0]}." if own else ""
    return confirmed("rate_limit_headers", f"{limits}.{tier}")
