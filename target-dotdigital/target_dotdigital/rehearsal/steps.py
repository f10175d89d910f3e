"""Experiments of a rehearsal: what is sent and read, without a judgement."""

from __future__ import annotations

import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

from target_dotdigital.dotdigital.contacts import ContactReader
from target_dotdigital.errors import ApiError, EndlessListError
from target_dotdigital.rehearsal.session import FirstImport, NotTestableError
from target_dotdigital.sync.readback import VISIBILITY_MARGIN

if TYPE_CHECKING:
    from target_dotdigital.dotdigital.contacts import FullContact
    from target_dotdigital.models import Observed
    from target_dotdigital.rehearsal.session import OwnContact, Sent, Session

# seconds between reads: poll for up to two minutes
PAUSES_SECONDS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
# put a position marker every ten characters, to show where a value was truncated
RULER_CHARACTERS = 10
# pages of the list of contacts that are followed
MAX_PAGES = 5
# an account has more new contacts than this only during a large import
MAX_NEW_PAGES = 2
# contacts with the lowest IDs, among which some were created before the rehearsal
OLDEST_CONTACTS = 100


def first_import(session: Session) -> FirstImport:
    """Import all addresses but the one without labels, and wait until their values are visible."""
    # with the time, so that values of an earlier rehearsal do not count
    stamp = f"{session.clock.now():%Y-%m-%d %H:%M:%S}"
    values = {contact: f"Rehearsal {stamp};Address {contact.number}" for contact in session.plan.first_contacts}
    sent = session.send(*(session.row(contact.email, value) for contact, value in values.items()))
    if sent.failure:
        return FirstImport(sent, failure=f"The first import was not accepted: {sent.failure}.")
    wanted = {contact: value for contact, value in values.items() if not sent.code_of(contact.email)}
    visible = _await_values(session, wanted)
    if wanted and not visible:
        failure = "dotdigital reported the first import as finished, but its values did not become visible within two minutes."
        return FirstImport(sent, failure=failure)
    return FirstImport(sent, visible)


def _await_values(session: Session, wanted: dict[OwnContact, str]) -> dict[OwnContact, FullContact]:
    """Read contacts for up to two minutes, return those that show their new values, and measure how long that took."""
    started = session.clock.monotonic()
    visible: dict[OwnContact, FullContact] = {}
    stale: dict[OwnContact, int] = {}
    for pause in (*PAUSES_SECONDS, 0.0):
        for contact, value in wanted.items():
            if contact not in visible:
                found = session.contacts.by_email(contact.email)
                if found is not None and found.value == value:
                    visible[contact] = found
                else:
                    stale[contact] = stale.get(contact, 0) + 1
        if len(visible) == len(wanted):
            break
        session.clock.wait(pause)
    # a value that never appears does not show how long results take
    if late := [reads for contact, reads in stale.items() if contact in visible]:
        session.stale_reads = sum(late)
        session.stale_seconds = session.clock.monotonic() - started
    return visible


def write_lengths(session: Session) -> dict[int, str]:
    """Write values of several lengths, one import each, and return how each differs; empty if it came back unchanged."""
    results = {}
    for length in session.plan.lengths:
        value = ruler(length)
        sent = session.write(value)
        found = session.read_value()
        if found == value:
            results[length] = ""
        else:
            results[length] = rejection(session, sent) or f"{difference(value, found)}, without an error"
    return results


def list_ids(session: Session) -> tuple[list[int], bool]:
    """Follow the first pages of the list of contacts, one contact each; return their IDs, and whether the list ended."""
    ids: list[int] = []
    marker = ""
    for _ in range(MAX_PAGES):
        page = session.contacts.page(1, marker)
        ids += [contact.contact_id or 0 for contact in page.items]
        marker = page.links.next_marker
        if not marker:
            break
    return ids, not marker


def filter_time(session: Session) -> datetime.datetime:
    """Return the time since when an incremental run after one that began with the rehearsal lists new contacts."""
    # dotdigital's clock decides; this machine's may be ahead
    return session.started_at + datetime.timedelta(seconds=min(session.client.ahead, 0.0)) - VISIBILITY_MARGIN


def list_created(session: Session) -> tuple[dict[int | None, Observed], bool] | None:
    """List the contacts that were created since the rehearsal began, as an incremental run does.

    Returns:
        The first contacts by ID, and whether these are all; None if dotdigital does not accept the filter.

    Raises:
        NotTestableError: the pages repeat.
    """
    contacts: dict[int | None, Observed] = {}
    pages = 0
    try:
        for page in ContactReader(session.client, session.account).pages(filter_time(session)):
            contacts |= {contact.contact_id: contact for contact in page}
            pages += bool(page)
            if pages == MAX_NEW_PAGES:
                return contacts, False
    except EndlessListError:
        msg = "The listed contacts could not be read, because the pages repeat."
        raise NotTestableError(msg) from None
    except ApiError as error:
        if error.status != HTTPStatus.BAD_REQUEST:
            raise
        return None
    return contacts, True


def oldest_created_before(session: Session, since: datetime.datetime) -> set[int]:
    """Return the IDs of the account's oldest contacts that have an address and were created before a time."""
    page = session.contacts.page(OLDEST_CONTACTS)
    return {
        contact.contact_id
        for contact in page.items
        if contact.contact_id and contact.identifiers.email and _is_before(contact.created, since)
    }


def _is_before(created: str | None, since: datetime.datetime) -> bool:
    try:
        time = datetime.datetime.fromisoformat(created or "")
    except ValueError:
        return False
    return (time if time.tzinfo else time.replace(tzinfo=datetime.UTC)) < since


def rejection(session: Session, sent: Sent) -> str:
    """Return why the test contact's row was not imported; empty if it was."""
    code = sent.code_of(session.test_contact)
    return sent.failure or (f"the row was rejected ({code})" if code else "")


def ruler(length: int) -> str:
    """Return a test string of the given length with position markers."""
    marks = "".join(
        f"{position:>{RULER_CHARACTERS - 1}}|" for position in range(RULER_CHARACTERS, length + RULER_CHARACTERS, RULER_CHARACTERS)
    ).replace(" ", ".")
    # the last character differs from the one before, so that its loss is noticed
    return (marks[:length])[:-1] + "#"


def difference(value: str, found: str | None) -> str:
    """Return how a value that was read differs from the one that was written."""
    if not found:
        return "the field is empty"
    if value.startswith(found):
        return f"cut to {len(found)} characters"
    pairs = enumerate(zip(value, found, strict=False))
    place = next((number for number, pair in pairs if pair[0] != pair[1]), min(len(value), len(found)))
    return f"changed from character {place + 1} on"


def changed_parts(value: str, found: str, parts: dict[str, tuple[str, ...]]) -> str:
    """Return which parts of a value were changed or lost.

    Args:
        value: the value that was written; it begins and ends with two spaces.
        found: the value that was read.
        parts: description of each part -> texts that were written.
    """
    changed = [name for name, texts in parts.items() if any(text not in found for text in texts)]
    if not (found.startswith(value[:2]) and found.endswith(value[-2:])):
        changed.insert(0, "spaces at the ends")
    return f"changed or lost: {', '.join(changed)}" if changed else difference(value, found)
