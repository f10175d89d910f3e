"""What the sync assumes about dotdigital, and the test of each assumption beside it, in the order of the report."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec

from target_dotdigital.dotdigital.account import ensure_book_and_fields
from target_dotdigital.ledger.database import open_ledger
from target_dotdigital.rehearsal import steps
from target_dotdigital.rehearsal.session import (
    Finding,
    NotTestableError,
    confirmed,
    email_of,
    in_capitals,
    invalid,
    not_tested,
    refuted,
    result_of,
    sentence,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from target_dotdigital.dotdigital.contacts import FullContact
    from target_dotdigital.rehearsal.session import OwnContact, Session

# far above every ID that was seen, so that no contact gets it in the meantime
ID_DISTANCE = 900_000_000
# longest value that is recommended, in characters: dotdigital's documented maximum
MAX_RECOMMENDED = 1000
NONE_NEW = (
    "None of your addresses is new to the account. Set one that is not a contact, or delete one of these contacts in dotdigital."
)
NO_CONTACT = "None of your addresses was a contact before. Set one that is."
NO_LISTS = "dotdigital does not show in which address books a contact is."
REPORT_IT = "Do not activate. Report it to dotdigital's support."
# sources
SPECIFICATION = "specification of the Contacts API, version 3.4"
HELP = "help centre, support.dotdigital.com"
MAGENTO = "github.com/dotmailer/dotmailer-magento2-extension"
PHP = "github.com/dotmailer/dotdigital-php"


@dataclass(frozen=True, slots=True)
class Assumption:
    """An assumption about dotdigital, and its test.

    Args:
        id: stable name.
        title: the assumption in a few words, for people who do not write code.
        statement: the assumption in full.
        grade: how good the evidence is: A dotdigital's documents, B its specification or code, C third party, D inference.
        check: how the rehearsal tests it.
        if_wrong: what would happen to the sync if it were wrong.
        consequence: what to do if it is refuted: which setting to change, or not to activate.
        test: the test. Raises NotTestableError if the rehearsal cannot decide.
    """

    id: str
    title: str
    statement: str
    grade: str
    check: str
    if_wrong: str
    consequence: str
    test: Callable[[Session], Finding]


ASSUMPTIONS: list[Assumption] = []


def assume(
    title: str, statement: str, grade: str, if_wrong: str, consequence: str
) -> Callable[[Callable[[Session], Finding]], Callable[[Session], Finding]]:
    """Add an assumption to the list; the decorated function tests it, and its docstring says how."""

    def add(test: Callable[[Session], Finding]) -> Callable[[Session], Finding]:
        check = test.__doc__ or ""
        ASSUMPTIONS.append(Assumption(test.__name__, title, statement, grade, check, if_wrong, consequence, test))
        return test

    return add


def check_read_only(session: Session) -> dict[str, Any]:
    """Test what can be tested without writing, and return the result.

    Raises:
        TargetError: dotdigital cannot be reached.
    """
    return _test(session, lambda _title: None)


def run(session: Session, announce: Callable[[str], None]) -> dict[str, Any]:
    """Perform the plan, and return the result.

    Args:
        session: the session.
        announce: called with the title of each assumption before it is tested.

    Raises:
        TargetError: an import could not be completed, or dotdigital or the ledger cannot be used.
    """
    ledger = open_ledger(session.settings.ledger_url)
    try:
        # the lock keeps a sync out; the rehearsal stores nothing in the ledger
        with ledger.locked(session.account.id):
            session.account = ensure_book_and_fields(
                session.settings, session.client, session.account, (session.settings.data_field,)
            )
            announce("first import")
            session.first_import = steps.first_import(session)
            return _test(session, announce)
    finally:
        ledger.close()


def _test(session: Session, announce: Callable[[str], None]) -> dict[str, Any]:
    findings = []
    for assumption in ASSUMPTIONS:
        announce(assumption.title)
        try:
            finding = assumption.test(session)
        except NotTestableError as reason:
            finding = not_tested(str(reason))
        findings.append(
            {
                **{name: getattr(assumption, name) for name in ("id", "title", "statement", "grade", "check", "if_wrong")},
                "verdict": finding.verdict.value,
                "seen": finding.seen,
                "consequence": (finding.advice or assumption.consequence) if finding.is_refuted else "",
            }
        )
    return result_of(session, findings)


# Access


@assume(
    title="Login, region and permissions",
    statement=(
        "account-info answers in any region and contains the API address of the account's own region. There, the API user may make every "
        "call of the sync: read contacts, address books and data fields, and submit imports."
    ),
    grade="A for the region (developer.dotdigital.com/docs/api-conventions); D for permissions, which are not documented for each call",
    if_wrong="Every run fails at the call that is denied, before it writes anything.",
    consequence="Do not activate. Let the account's owner create an API user without restrictions, and rehearse again.",
)
def permissions(session: Session) -> Finding:
    """Log in, and make each call of the sync once."""
    if session.first_import is None:
        msg = "Reads are permitted. Whether imports are is not known without writing."
        raise NotTestableError(msg)
    if session.first.sent.status == HTTPStatus.FORBIDDEN:
        return refuted("The API user may read contacts, but may not submit imports (status 403).")
    if session.first.sent.failure:
        raise NotTestableError(session.first.failure)
    return confirmed(f"All calls of the sync were permitted at {session.client.base_url}: reads of the account and imports.")


class _Visibility(msgspec.Struct):
    name: str
    visibility: str = ""


@assume(
    title="Private address book and data field",
    statement="Address books and data fields that the API creates have the requested name and the visibility Private.",
    grade="B: specifications of the lists and data fields APIs, version 2",
    if_wrong=(
        "Contacts could see a public address book by name in a preference centre. The run that creates it stops before it writes a "
        "contact; so does one that gets a field with another name."
    ),
    consequence=(
        "Create address book and data field by hand in dotdigital, private, with the names of the settings address_book and "
        "data_field. Then activate."
    ),
)
def names_created_privately(session: Session) -> Finding:
    """Create the rehearsal's address book and data field, or find those of an earlier rehearsal, and read their visibility."""
    field = session.account.fields.get(session.settings.data_field)
    if session.account.book is None or field is None:
        msg = "The rehearsal's address book and data field do not exist yet."
        raise NotTestableError(msg)
    book = session.client.get("address books", f"/v2/address-books/{session.book_id}", _Visibility)
    fields = session.client.get("data fields", "/v2/data-fields", list[_Visibility])
    found = {
        "address book": book.visibility,
        "data field": next((listed.visibility for listed in fields if listed.name == field), "not found"),
    }
    public = [f"the {what} is {seen or 'of unknown visibility'}" for what, seen in found.items() if seen != "Private"]
    if public:
        return refuted(f"Private was requested, but {' and '.join(public)}.")
    return confirmed(f"Both are private; dotdigital spells the data field {field}.")


# Reports and results


@assume(
    title="Results are visible at once",
    statement="What a finished import has written is visible in the next read.",
    grade="D",
    if_wrong=(
        "A run waits up to verify_timeout until what it delivered is visible, and fails if it is not. A comparison that starts too early "
        "reads old values, and sends the same labels again. No change is lost."
    ),
    consequence=(
        "Set verify_timeout to more than it took, and do not run the command reconcile directly after a run. If the values never became "
        "visible: do not activate."
    ),
)
def results_visible(session: Session) -> Finding:
    """Read the contacts immediately after the first import has finished, and again until the values are there."""
    first = session.first
    if not first.sent.failure and first.failure:
        return refuted(first.failure, "Do not activate. Ask dotdigital's support why.")
    count = len(session.visible)
    if session.stale_reads:
        return refuted(f"The new values became visible after {session.stale_seconds:.0f} s and {session.stale_reads} reads.")
    return confirmed(f"The first read after the import showed the new values of {_contacts(count)}.")


@assume(
    title="The import's report is complete",
    statement=(
        "The report of a finished import contains every row as created, updated or failed, with the contact's ID if it was imported."
    ),
    grade=f"B: {SPECIFICATION}; D for large imports",
    if_wrong=(
        "Rows that the report does not contain count as unconfirmed: they are sent again in every run, and no run is reported as "
        "complete. Without IDs, removed contacts are looked up one by one before they are cleared."
    ),
    consequence="Do not activate: no run could become complete. Report it to dotdigital's support with the ID of the import.",
)
def report_names_every_row(session: Session) -> Finding:
    """Compare the rows of the first import with its report."""
    _ = session.visible
    sent, contacts = session.first.sent, session.plan.first_contacts
    reported = {email_of(contact) for contact in sent.imported} | {email for email, _ in sent.failures}
    missing = [contact.name for contact in contacts if contact.email not in reported]
    without_id = sum(contact.contact_id is None and bool(email_of(contact)) for contact in sent.imported)
    took = f"The import took {sent.seconds:.0f} s."
    if missing:
        return refuted(f"The report does not contain {', '.join(missing)} of {len(contacts)} rows. {took}")
    if without_id:
        return refuted(f"The report contains all {len(contacts)} rows, but {without_id} of them without a contact ID. {took}")
    return confirmed(f"The report contains all {len(contacts)} rows, with IDs. {took}")


@assume(
    title="Contact IDs are reliable",
    statement="The contact ID in an import's report is the ID of the contact with that address.",
    grade="A: developer.dotdigital.com/reference/importcontacts-1",
    if_wrong=(
        "Removed contacts are matched by ID: other contacts would lose their labels. If a report contains another address for an ID, the "
        "IDs of delivered contacts are compared, and the run fails."
    ),
    consequence=REPORT_IT,
)
def ids_are_stable(session: Session) -> Finding:
    """Look up every imported address, and compare its contact ID with the one in the import's report."""
    reported = {email_of(contact): contact.contact_id for contact in session.first.sent.imported if contact.contact_id is not None}
    pairs = [
        (own.name, reported[own.email], contact.contact_id) for own, contact in session.visible.items() if own.email in reported
    ]
    if not pairs:
        msg = "The report of the import contains no contact of yours with an ID."
        raise NotTestableError(msg)
    wrong = [name for name, reported_id, read_id in pairs if reported_id != read_id]
    if wrong:
        return refuted(f"The report gives {', '.join(wrong)} the ID of another contact.")
    return confirmed(f"{len(pairs)} IDs in the report are those of the contacts.")


# New contacts


def _new(session: Session) -> list[FullContact]:
    new = [contact for own, contact in session.visible.items() if own.before is None]
    if not new:
        raise NotTestableError("dotdigital did not create the new contact." if session.plan.new else NONE_NEW)
    return new


@assume(
    title="Status of new contacts",
    statement="A contact that an import creates without a status is subscribed to e-mail.",
    grade=f"B: {SPECIFICATION}",
    if_wrong=(
        "With the status pendingOptIn, dotdigital sends every new contact a confirmation e-mail, and adds it to the address book only "
        "when it has confirmed; its labels are written all the same. With any other status, new contacts cannot receive e-mail."
    ),
    consequence=(
        "Do not activate. If the status is pendingOptIn, double opt-in is enforced for bulk uploads: change it under "
        "Settings > General > Account settings, or set upload_emails to none."
    ),
)
def new_contact_status(session: Session) -> Finding:
    """Import an address that the account does not contain, and read the contact."""
    statuses = sorted({status for contact in _new(session) for status in (contact.status, contact.email_status) if status})
    if not statuses:
        msg = "dotdigital shows no status of new contacts."
        raise NotTestableError(msg)
    seen = f"New contacts have the status {' and '.join(statuses)}."
    return _judged(seen, holds={status.lower() for status in statuses} == {"subscribed"})


@assume(
    title="Opt-in type of new contacts",
    statement="A contact that an import creates without an opt-in type has the opt-in type Unknown: the sync claims no consent.",
    grade=f"A: {HELP}",
    if_wrong="New contacts would show evidence of a consent that they did not give.",
    consequence="Do not activate with upload_emails other than none. Ask dotdigital's support for the account's default opt-in type.",
)
def new_contact_opt_in_type(session: Session) -> Finding:
    """Import an address that the account does not contain, and read the contact."""
    types = sorted({contact.opt_in_type or "none" for contact in _new(session)})
    seen = f"New contacts have the opt-in type {' and '.join(types)}."
    return _judged(seen, holds={kind.lower() for kind in types} <= {"unknown", "none"})


@assume(
    title="New contacts without labels",
    statement="A row that has null for the data field and an unknown address creates the contact with an empty field.",
    grade="D",
    if_wrong=(
        "New contacts that are in none of the chosen segments are rejected: they are missing in the address book, count as rejected, and "
        "are sent again with growing pauses."
    ),
    consequence=(
        "Do not activate with upload_emails set to all: new contacts without segments would be rejected. Set upload_emails to "
        "with_segments or none."
    ),
)
def null_harmless_for_new(session: Session) -> Finding:
    """Import null for an address that the account does not contain, and read the contact."""
    _ = session.visible
    own = session.plan.new_contact_without_labels
    if own is None:
        raise NotTestableError(
            "Only one of your addresses is new to the account. Set a second one." if session.plan.new else NONE_NEW
        )
    sent = session.send(session.row(own.email, None))
    contact = session.read(own.email)
    if contact is None:
        return refuted(f"The contact was not created ({sent.failure or sent.code_of(own.email) or 'no code'}).")
    if contact.value:
        return refuted("The contact was created, but the field has a value.")
    return confirmed("The contact was created, and the field is empty.")


# Existing contacts


def _pairs(session: Session) -> list[tuple[OwnContact, FullContact, FullContact]]:
    """Return the contacts that existed before: address, the contact before, and after the first import."""
    return [(own, own.before, after) for own, after in session.visible.items() if own.before is not None]


@assume(
    title="Consent of existing contacts",
    statement=(
        "An import that contains no status, opt-in type, preference or consent record leaves those of an existing contact as they are."
    ),
    grade=f"B: {SPECIFICATION}, and {MAGENTO} for the status; D for preferences, which no document mentions",
    if_wrong="A run could subscribe people who have unsubscribed.",
    consequence=REPORT_IT,
)
def existing_consent_kept(session: Session) -> Finding:
    """Read existing contacts completely, import labels for them, and read them again."""
    pairs = [pair for pair in _pairs(session) if not pair[0].is_suppressed]
    if not pairs:
        raise NotTestableError(NO_CONTACT)
    changed = []
    for own, before, after in pairs:
        for what, earlier, later in (
            ("status", before.email_status, after.email_status),
            ("status of the contact", before.status, after.status),
            ("opt-in type", before.opt_in_type, after.opt_in_type),
        ):
            if earlier != later:
                changed.append(f"{own.name}: {what} {earlier or 'none'} became {later or 'none'}")
        for what, earlier, later in zip(("preferences", "consent records"), before.consent, after.consent, strict=True):
            if earlier != later:
                changed.append(f"{own.name}: {what} changed")
    if changed:
        return refuted(sentence(changed))
    statuses = ", ".join(sorted({before.email_status for _, before, _ in pairs}))
    return confirmed(f"Nothing changed for {_contacts(len(pairs))} ({statuses}).")


@assume(
    title="Other data of existing contacts",
    statement="Data fields that a row does not contain keep their values.",
    grade="A: developer.dotdigital.com/reference/importcontacts-1",
    if_wrong="A run would delete customer data such as names and postcodes.",
    consequence=REPORT_IT,
)
def other_fields_kept(session: Session) -> Finding:
    """Compare every data field of existing contacts before and after the first import."""
    filled = [(before.fields, after.fields) for _, before, after in _pairs(session) if before.fields]
    if not filled:
        msg = "None of your addresses was a contact with values in other data fields. Set one that is."
        raise NotTestableError(msg)
    changed = sorted({name for before, after in filled for name, digest in before.items() if after.get(name) != digest})
    if changed:
        return refuted(f"Changed or emptied: {', '.join(changed)}.")
    total = sum(len(before) for before, _ in filled)
    return confirmed(f"Unchanged values in other data fields: {total} of {total}.")


@assume(
    title="Contacts join the address book",
    statement="A row with the ID of an address book adds the contact to it, whether the contact is new or not.",
    grade=f"B: {SPECIFICATION}",
    if_wrong=(
        "The address book would not contain all uploaded contacts. The sync looks up some of the contacts that it has delivered, and fails."
    ),
    consequence="Do not activate with upload_emails other than none. Set upload_emails to none if you need only the data field.",
)
def added_to_address_book(session: Session) -> Finding:
    """Import new and existing contacts with the rehearsal's address book, and read which address books they are in."""
    known = {own: contact.lists for own, contact in session.visible.items() if contact.lists is not None}
    if not known:
        raise NotTestableError(NO_LISTS)
    # a contact that has to confirm its opt-in joins the address book later: see the status of new contacts
    joined = {own: lists for own, lists in known.items() if not session.visible[own].is_pending_opt_in}
    outside = [own.name for own, lists in joined.items() if session.book_id not in lists]
    if outside:
        return refuted(f"Not in the address book after the import: {', '.join(outside)}.")
    return confirmed(f"All {len(joined)} contacts are in the rehearsal's address book.")


@assume(
    title="Other address books are kept",
    statement="Adding a contact to an address book does not remove it from others.",
    grade=f"B: {SPECIFICATION}",
    if_wrong="A run would remove all contacts from their address books.",
    consequence="Do not activate with upload_emails other than none. Report it to dotdigital's support.",
)
def other_lists_kept(session: Session) -> Finding:
    """Compare the address books of existing contacts before and after the first import."""
    pairs = [(own, set(before.lists or ()) - {session.book_id}, after.lists) for own, before, after in _pairs(session)]
    members = [(own, before, set(after)) for own, before, after in pairs if before and after is not None]
    if not members:
        raise NotTestableError(
            NO_LISTS
            if any(before for _, before, _ in pairs)
            else "None of your addresses was in another address book before. Set one that is."
        )
    lost = [own.name for own, before, after in members if not before <= after]
    if lost:
        return refuted(f"Removed from other address books: {', '.join(lost)}.")
    return confirmed(f"{_contacts(len(members))} stayed in all other address books.")


@assume(
    title="Suppressed and unsubscribed contacts",
    statement="A suppressed or unsubscribed contact gets its labels like any other and keeps its status.",
    grade="A: developer.dotdigital.com/reference/unified-contacts; the specification's words (B) allow another reading",
    if_wrong=(
        "If such rows are rejected, these contacts keep old labels; the report counts them as rejected. If the status changes, people who "
        "do not want e-mails get some."
    ),
    consequence=(
        "If the status has changed: do not activate, and report it to dotdigital's support. If the row was rejected: you can activate; "
        "such contacts stay without labels and count as rejected, so max_rejected_percent may have to be higher for the first run."
    ),
)
def suppressed_kept(session: Session) -> Finding:
    """Import labels for a suppressed (else an unsubscribed) address of yours, and read the contact."""
    existing, visible = session.plan.existing, session.visible
    chosen = [pair for pair in existing if pair[0].is_suppressed] or [
        pair for pair in existing if pair[1].email_status.lower() == "unsubscribed"
    ]
    if not chosen:
        msg = "None of your addresses is suppressed or unsubscribed. Set one that is."
        raise NotTestableError(msg)
    wrong = []
    for own, before in chosen:
        after = visible.get(own)
        if after is None:
            wrong.append(_without_labels(session, own))
        elif after.email_status != before.email_status:
            wrong.append(f"the status of {own.name} changed from {before.email_status} to {after.email_status}")
    if wrong:
        return refuted(sentence(wrong))
    statuses = ", ".join(sorted({before.email_status for _, before in chosen}))
    return confirmed(f"{_contacts(len(chosen))} ({statuses}) got the labels and kept the status.")


@assume(
    title="Addresses that are stored with capitals",
    statement="A row with an address in lower case updates the contact that dotdigital stores with capitals.",
    grade=f"D; {MAGENTO} met contacts for which such a call was refused (B)",
    if_wrong=(
        "If such rows are refused, these contacts keep old labels, and count as rejected; all others are delivered. If another contact "
        "is created, it gets the labels, and perhaps e-mails twice."
    ),
    consequence=(
        "If the row was refused: you can activate; correct the addresses that the command rejected lists to lower case in dotdigital. If "
        "another contact was created: set upload_emails to none, and report it to dotdigital's support."
    ),
)
def stored_capitals(session: Session) -> Finding:
    """Import labels in lower case for an address of yours that dotdigital stores with capitals, and read the contact."""
    visible = session.visible
    chosen = [pair for pair in session.plan.existing if pair[1].has_capitals]
    if not chosen:
        msg = "dotdigital stores none of your addresses with capitals. Set one that it does, or edit one there."
        raise NotTestableError(msg)
    wrong = []
    for own, before in chosen:
        after = visible.get(own)
        if after is None:
            wrong.append(_without_labels(session, own))
        elif after.contact_id != before.contact_id:
            wrong.append(f"another contact was created for {own.name}")
    if wrong:
        return refuted(sentence(wrong))
    return confirmed(f"{_contacts(len(chosen))} that dotdigital stores with capitals got the labels.")


# Values of the data field


@assume(
    title="Labels can be cleared",
    statement="The value null empties the data field of an existing contact.",
    grade="A: developer.dotdigital.com/reference/importcontacts-1",
    if_wrong=(
        "Contacts that leave all their segments would keep the names, although dotdigital reports the rows as updated. The sync looks up "
        "one of them after each delivery, and fails."
    ),
    consequence="Do not activate: labels could not be removed. Report it to dotdigital's support.",
)
def null_clears(session: Session) -> Finding:
    """Import null for a contact that has a value, and read it."""
    sent = session.write(None)
    value = session.read_value()
    if value == "":
        return confirmed("The field is empty.")
    seen = "The contact is gone." if value is None else "The field still has its value."
    failure = steps.rejection(session, sent)
    return refuted(f"{seen} dotdigital did not import the row: {failure}." if failure else seen)


@assume(
    title="Long values survive",
    statement="A text of up to max_value_length characters is stored unchanged.",
    grade="C for 1,000 characters, A (an older article) for 255; D for longer values",
    if_wrong=(
        "Names of contacts in many segments would be cut, or their rows rejected, or their whole import would fail, together with up to "
        "contacts_per_import other contacts. A cut value is found when delivered contacts are looked up, and the run fails."
    ),
    consequence="Set max_value_length to the longest value that came back unchanged, and rehearse again before you activate.",
)
def value_length(session: Session) -> Finding:
    """Write values of 255, 256, 1,000, 1,001 and max_value_length characters, one import each, and read them back."""
    results = steps.write_lengths(session)
    longest = 0
    for length, failure in results.items():
        if failure:
            break
        longest = length
    session.longest_value = min(longest, MAX_RECOMMENDED) or None
    summary = "; ".join(f"{length}: {failure or 'unchanged'}" for length, failure in results.items()) + "."
    if longest >= session.plan.max_value_length:
        silent = any(failure.endswith("without an error") for failure in results.values())
        over = " Longer values are changed without an error, so max_value_length must not be higher." if silent else ""
        return confirmed(summary + over)
    if not longest:
        return refuted(summary, "Do not activate: no value of the tested lengths came back unchanged.")
    return refuted(summary, f"Set max_value_length to {longest} before you activate, and rehearse again.")


@assume(
    title="Names come back exactly",
    statement=(
        "Delimiters, commas, quotes, apostrophes, markup, accents, emoji and spaces at both ends are stored as they were sent."
    ),
    grade="D",
    if_wrong=(
        "Rules that compare with the exact name would not match. The sync looks up the delivered contact with the most unusual "
        "characters, and fails."
    ),
    consequence=(
        "Rename the affected segments with segment_labels so that their labels avoid these characters, then activate. Names without such "
        "characters are not affected."
    ),
)
def text_exact(session: Session) -> Finding:
    """Write one value with delimiters, quotes, markup, accents, emoji and spaces at both ends, and read it back."""
    delimiter = session.settings.labels.delimiter
    parts = {
        'quotation marks (")': ('"VIP"',),
        "apostrophes": ("O'Neil",),
        "commas": ("Loyal,",),
        "ampersands (&)": (" & ",),
        "markup (<b>)": ("<b>",),
        "backslashes": ("\\100",),
        "accents": ("Zürich", "Ångström"),
        "emoji": ("\N{PARTY POPPER}",),
        "other scripts": ("日本",),
    }
    value = f'  Loyal, "VIP" & O\'Neil{delimiter}<b>Zürich</b>\\100 %{delimiter}Ångström \N{PARTY POPPER} 日本  '
    sent = session.write(value)
    found = session.read_value()
    if found == value:
        return confirmed(f"All {len(value)} characters came back unchanged.")
    if failure := steps.rejection(session, sent):
        return refuted(f"The value was not imported: {failure}.")
    return refuted(sentence([steps.changed_parts(value, found or "", parts)]))


# Matching and rejections


@assume(
    title="Capitals in addresses do not matter",
    statement="The same address in other capitals is the same contact.",
    grade="D",
    if_wrong=(
        "The sync writes addresses in lower case. Contacts stored with capitals would exist twice, and get e-mails twice. A run that reads "
        "the account back reports it, and ends as partly delivered."
    ),
    consequence=(
        "Do not activate with upload_emails other than none. Set upload_emails to none, and ask dotdigital's support how it compares "
        "addresses."
    ),
)
def case_insensitive_addresses(session: Session) -> Finding:
    """Import your address in capitals, and see whether dotdigital updates the contact or creates a second one."""
    email, value = session.test_contact, "Address in capitals"
    before = session.read(email)
    sent = session.send(session.row(in_capitals(email), value))
    after = session.read(email)
    if failure := steps.rejection(session, sent):
        msg = f"The address in capitals was not imported: {failure}."
        raise NotTestableError(msg)
    if after is not None and after.value == value and before is not None and after.contact_id == before.contact_id:
        return confirmed("The address in capitals updated the same contact.")
    name = session.plan.test_contact.name
    session.leftovers.append(f"the contact with the capitals of {name} in its address, if there is one")
    created = ", but created another one" if sent.report.created else ""
    return refuted(f"The address in capitals did not update the contact{created}.")


@assume(
    title="Matching by contact ID never creates",
    statement=(
        "A row that is matched by contact ID updates that contact. An ID that does not exist is reported as a failure, and creates nothing."
    ),
    grade=f"B for the match: {SPECIFICATION}; D for the failure of an unknown ID",
    if_wrong=(
        "Clearing the labels of a contact that was deleted in dotdigital would create a contact again, or leave the row unconfirmed, so "
        "that it is sent again in every run."
    ),
    consequence=(
        "Do not activate with on_removed set to clear, or with upload_emails set to none: these match contacts by ID. Set on_removed to "
        "keep, and report it to dotdigital's support."
    ),
)
def id_match_never_creates(session: Session) -> Finding:
    """Update your contact by its ID; then send an ID that was not found immediately before, and look it up again."""
    email, value = session.test_contact, "Matched by ID"
    contact = session.read(email)
    if contact is None or contact.contact_id is None:
        msg = "dotdigital shows no ID for the contact."
        raise NotTestableError(msg)
    sent = session.send(session.row(email, value, contact.contact_id))
    if session.read_value() != value:
        code = sent.failure or sent.code_of(email) or "no code"
        return refuted(f"A row matched by the contact's own ID did not update it ({code}).")
    unknown = contact.contact_id + ID_DISTANCE
    if session.contacts.has_id(unknown):
        msg = "No contact ID was found that does not exist."
        raise NotTestableError(msg)
    sent = session.send(session.row(email, "Unknown ID", unknown))
    session.wait_until_visible()
    if sent.report.created or session.contacts.has_id(unknown):
        session.leftovers.append("the contact without an address that the test with an unknown contact ID created")
        return refuted("A row with an ID that does not exist created a contact.")
    if sent.failure and not sent.refusal:
        return refuted(sentence([sent.failure]))
    if session.read_value() != value:
        return refuted("A row with an ID that does not exist changed another contact.")
    code = sent.refusal or next((code for _, code in sent.failures), "")
    if not code:
        return refuted("The contact was updated by its ID. An unknown ID is in no part of the import's report.")
    return confirmed(f"The contact was updated by its ID; an unknown ID was reported as {code} and created nothing.")


@assume(
    title="An invalid address fails alone",
    statement=(
        "A row that dotdigital does not accept costs no other row: it is reported with a code, or the call is refused, and accepted "
        "without this row."
    ),
    grade=f"B: {PHP} for the code, {MAGENTO} for the refused call",
    if_wrong=(
        "If an import fails only after it was accepted, nothing shows which row is to blame, and its contacts stay pending. If the address "
        "is accepted, contacts that can never receive e-mail are created."
    ),
    consequence=(
        "If the whole import failed: set contacts_per_import low (100) before you activate, so that few contacts are affected. If the "
        "address was accepted: you can activate; remove the contact by hand."
    ),
)
def invalid_address_rejected_alone(session: Session) -> Finding:
    """Import an invalid address together with a valid one; if the call is refused, send each of them alone."""
    email, value = session.test_contact, "Beside an invalid address"
    wrong = invalid(email)
    sent = session.send(session.row(wrong, "Invalid address"), session.row(email, value))
    arrived = session.read_value() == value
    if sent.failure:
        return refuted(sentence([f"because of one invalid address, {sent.failure}"]))
    code = sent.code_of(wrong)
    if not code:
        if any(email_of(contact) == wrong for contact in sent.imported):
            name = session.plan.test_contact.name
            session.leftovers.append(f"the contact whose address is that of {name} with -at- instead of @")
            return refuted("dotdigital accepted the invalid address as a contact.")
        return refuted("The report of the import does not contain the invalid address.")
    how = "dotdigital refused the whole call, and accepted it without the invalid address" if sent.narrowed else "it was reported"
    other = "the other contact was updated" if arrived else "the other contact was not updated"
    return _judged(sentence([f"{how} ({code})", other]), holds=arrived)


# Reading the account back


@assume(
    title="The account can be read completely",
    statement="GET /contacts/v3 lists contacts by ascending ID, page by page, and links to the next page as long as there is one.",
    grade=f"B: {SPECIFICATION}",
    if_wrong=(
        "If pages repeat, the run stops with an error. If the list ends too early, contacts look as if they did not exist: their labels "
        "are sent again, and orphaned labels stay. If many contacts of the address book are missing, the run ends as partly delivered."
    ),
    consequence=REPORT_IT,
)
def read_back_pages(session: Session) -> Finding:
    """Read the first pages with one contact each, and follow the links."""
    session.wait_until_visible()
    imported = session.first_import.visible.values() if session.first_import is not None else ()
    own = {contact.contact_id for contact in (*(before for _, before in session.plan.existing), *imported)}
    ids, ended = steps.list_ids(session)
    repeated = next((place for place in range(1, len(ids)) if ids[place] <= max(ids[:place])), None)
    if repeated is not None:
        return refuted(f"Page {repeated + 1} repeats a contact of an earlier page, or is not in ascending order.")
    if len(own) < 2:  # noqa: PLR2004 - a second page needs a second contact
        msg = "Fewer than two of your addresses are contacts, so a second page cannot be expected."
        raise NotTestableError(msg)
    if ended and len(ids) < len(own):
        return refuted(f"The list ended after {len(ids)} contacts, but the account has at least {len(own)}.")
    return confirmed(f"{len(ids)} pages with one new contact each, in ascending order.")


@assume(
    title="The filter by time of creation works",
    statement="GET /contacts/v3 with ~created lists the contacts that were created since a time (UTC), and no others.",
    grade=f"B: {SPECIFICATION}",
    if_wrong=(
        "If the filter shows nothing, contacts that sign up in dotdigital, or come back after they were deleted, get no labels until a run "
        "with --full-refresh, or the run after the command reconcile. If it is ignored, every run reads the whole account."
    ),
    consequence=(
        "You can activate, but run the command reconcile regularly: the run after it writes the labels of new contacts. Report it to "
        "dotdigital's support."
    ),
)
def filter_by_creation(session: Session) -> Finding:
    """List the contacts created since an hour before the rehearsal, and look for its new and the account's oldest contacts."""
    new = {contact.contact_id for contact in _new(session) if contact.contact_id is not None}
    found = steps.list_created(session)
    if found is None:
        return refuted(
            "dotdigital does not accept the filter (status 400).",
            "Do not activate: every run but one with --full-refresh would fail. Report it to dotdigital's support.",
        )
    listed, is_all = found
    since = steps.filter_time(session)
    earlier = steps.oldest_created_before(session, since)
    if shown := earlier & listed.keys():
        return refuted(
            f"Contacts that were created earlier than {since:%Y-%m-%d %H:%M} UTC were listed: {len(shown)} of {len(earlier)}.",
            "You can activate, but every run reads the whole account. Report it to dotdigital's support.",
        )
    missing = new - listed.keys()
    if missing and not is_all:
        msg = "The account has more new contacts than the rehearsal reads."
        raise NotTestableError(msg)
    left_out = f"Earlier contacts that were listed: 0 of {len(earlier)}." if earlier else "The account showed no earlier contact."
    seen = f"Contacts of the rehearsal that were listed: {len(new) - len(missing)} of {len(new)}. {left_out}"
    return _judged(seen, holds=not missing)


@assume(
    title="Address books are visible in the list",
    statement="With include=lists, the list of contacts contains the address books of each contact.",
    grade=f"B: {SPECIFICATION}",
    if_wrong="Every contact looks as if it were missing in the address book: each comparison with the whole account sends it again.",
    consequence=(
        "You can activate, but schedule neither runs with --full-refresh nor the command reconcile: each of them sends all contacts again. "
        "Set upload_emails to none if the address book does not matter."
    ),
)
def lists_in_read_back(session: Session) -> Finding:
    """List the contacts that the rehearsal has created, as a run does, and look for its address book."""
    members = {contact.contact_id for contact in _new(session) if session.book_id in (contact.lists or ())}
    listed, _ = steps.list_created(session) or ({}, True)
    own = [listed[contact_id] for contact_id in members & listed.keys()]
    if not own:
        msg = "None of the new contacts is in the rehearsal's address book and in the list."
        raise NotTestableError(msg)
    shown = sum(contact.in_address_book for contact in own)
    return _judged(f"{shown} of {len(own)} contacts in the address book were listed with it.", holds=shown == len(own))


def _judged(seen: str, *, holds: bool) -> Finding:
    return confirmed(seen) if holds else refuted(seen)


def _without_labels(session: Session, own: OwnContact) -> str:
    return f"{own.name} did not get its labels ({session.first.sent.code_of(own.email) or 'no code'})"


def _contacts(number: int) -> str:
    return "1 contact" if number == 1 else f"{number} contacts"
