"""What can be checked without writing: the list of contacts, rate limits, programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from target_dotdigital.dotdigital import account as accounts
from target_dotdigital.rehearsal.result import Finding, confirmed, judged, not_tested, refuted

if TYPE_CHECKING:
    from target_dotdigital.dotdigital.full_contacts import ContactRecords, Record
    from target_dotdigital.rehearsal.recording import RecordingClient

MAX_PAGES = 5
# an address book of a rehearsal has few contacts
BOOK_PAGE = 100


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
        if not marker or not ids:
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
