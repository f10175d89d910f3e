"""What imports make of their rows while a switch of `deviations.DOTDIGITAL` is on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nosto_dotdigital_sandbox.records import Contact, Records
from nosto_dotdigital_sandbox.rules import instead_of

if TYPE_CHECKING:
    from nosto_dotdigital_sandbox.records import Book, DataField

Row = dict[str, Any]
MAX_LENGTH = 255
LAST_PLAIN_CHARACTER = "\uffff"

Read = Callable[[Row], Row]
Change = Callable[[Contact, Row, str], None]
Refusal = Callable[[Row, Contact | None, set[str]], str | None]

# Address book and data fields


@instead_of("create_book", "creates_public")
def create_public_book(_: Records, documented: Callable[..., Book], name: str, _visibility: str) -> Book:
    """Create the address book public."""
    return documented(name, "Public")


@instead_of("create_field", "creates_public")
def create_public_field(_: Records, documented: Callable[..., DataField], name: str, kind: str, _visibility: str) -> DataField:
    """Create the data field public."""
    return documented(name, kind, "Public")


@instead_of("create_field")
def renames_fields(_: Records, documented: Callable[..., DataField], name: str, kind: str, visibility: str) -> DataField:
    """Create the data field under another name."""
    return documented(f"X_{name}", kind, visibility)


# New contacts


@instead_of("create")
def new_contacts_pending(_: Records, documented: Callable[[str], Contact], email: str) -> Contact:
    """Create the contact with another status."""
    contact = documented(email)
    contact.status = "pendingOptIn"
    return contact


@instead_of("create")
def new_contacts_single_opt_in(_: Records, documented: Callable[[str], Contact], email: str) -> Contact:
    """Create the contact with another opt-in type."""
    contact = documented(email)
    contact.opt_in_type = "Single"
    return contact


# Existing contacts


@instead_of("change")
def resets_status(_: Records, documented: Change, contact: Contact, row: Row, merge_option: str) -> None:
    """Subscribe an unsubscribed contact."""
    documented(contact, row, merge_option)
    if contact.status == "unsubscribed":
        contact.status = "subscribed"


@instead_of("change")
def resubscribes(_: Records, documented: Change, contact: Contact, row: Row, merge_option: str) -> None:
    """Subscribe a suppressed contact."""
    documented(contact, row, merge_option)
    if contact.status == "suppressed":
        contact.status = "subscribed"


@instead_of("change")
def resets_opt_in_type(_: Records, documented: Change, contact: Contact, row: Row, merge_option: str) -> None:
    """Forget how the contact opted in."""
    documented(contact, row, merge_option)
    contact.opt_in_type = "Unknown"


@instead_of("change")
def resets_preferences(_: Records, documented: Change, contact: Contact, row: Row, merge_option: str) -> None:
    """Remove the contact's preferences."""
    documented(contact, row, merge_option)
    contact.preferences.clear()


@instead_of("change")
def blanks_other_fields(_: Records, documented: Change, contact: Contact, row: Row, merge_option: str) -> None:
    """Empty the data fields that the row leaves out, if it states any."""
    stated = {name.upper() for name in row.get("dataFields", {})}
    if stated:
        contact.data_fields = {name: value for name, value in contact.data_fields.items() if name.upper() in stated}
    documented(contact, row, merge_option)


@instead_of("change")
def absent_field_clears(account: Records, documented: Change, contact: Contact, row: Row, merge_option: str) -> None:
    """Empty the data fields that the API created and the row leaves out."""
    stated = {name.upper() for name in row.get("dataFields", {})}
    for name, field in account.fields.items():
        if field.through_api and name not in stated:
            contact.data_fields.pop(field.name, None)
    documented(contact, row, merge_option)


@instead_of("change")
def replaces_lists(_: Records, documented: Change, contact: Contact, row: Row, merge_option: str) -> None:
    """Remove the contact from the address books that the row does not state, if it states any."""
    if row.get("lists"):
        contact.lists.clear()
    documented(contact, row, merge_option)


# How a row is read


@instead_of("read")
def ignores_lists(_: Records, documented: Read, row: Row) -> Row:
    """Read no address books."""
    return {name: value for name, value in documented(row).items() if name != "lists"}


@instead_of("read")
def ignores_null(_: Records, documented: Read, row: Row) -> Row:
    """Read no nulls."""
    read = documented(row)
    return {**read, "dataFields": {name: value for name, value in read.get("dataFields", {}).items() if value is not None}}


@instead_of("read")
def unknown_field_ignored(account: Records, documented: Read, row: Row) -> Row:
    """Read no unknown data fields."""
    read = documented(row)
    return {
        **read,
        "dataFields": {name: value for name, value in read.get("dataFields", {}).items() if name.upper() in account.fields},
    }


@instead_of("read")
def cuts_at_255(_: Records, documented: Read, row: Row) -> Row:
    """Read the beginning of long values."""
    return _with_texts(documented(row), lambda text: text[:MAX_LENGTH])


@instead_of("read")
def trims_values(_: Records, documented: Read, row: Row) -> Row:
    """Read values without surrounding spaces."""
    return _with_texts(documented(row), str.strip)


@instead_of("read")
def escapes_quotes(_: Records, documented: Read, row: Row) -> Row:
    """Read values as text for HTML."""
    return _with_texts(documented(row), lambda text: text.replace('"', "&quot;"))


@instead_of("read")
def drops_emoji(_: Records, documented: Read, row: Row) -> Row:
    """Read values without the characters that two bytes cannot encode."""
    return _with_texts(documented(row), lambda text: "".join(one for one in text if one <= LAST_PLAIN_CHARACTER))


def _with_texts(row: Row, change: Callable[[str], str]) -> Row:
    values = {name: change(value) if isinstance(value, str) else value for name, value in row.get("dataFields", {}).items()}
    return {**row, "dataFields": values}


def has_long_value(row: Row) -> bool:
    """Return whether a value of a row is longer than 255 characters."""
    return any(isinstance(value, str) and len(value) > MAX_LENGTH for value in row.get("dataFields", {}).values())


# Which rows are refused


@instead_of("refusal")
def suppressed_rejected(_: Records, documented: Refusal, row: Row, contact: Contact | None, seen: set[str]) -> str | None:
    """Reject a suppressed contact."""
    return documented(row, contact, seen) or ("globallySuppressed" if contact and contact.status == "suppressed" else None)


@instead_of("refusal")
def rejects_null_on_new(_: Records, documented: Refusal, row: Row, contact: Contact | None, seen: set[str]) -> str | None:
    """Reject a new contact whose row holds a null."""
    has_null = None in row.get("dataFields", {}).values()
    return documented(row, contact, seen) or ("apiSchemaViolation" if contact is None and has_null else None)


@instead_of("refusal")
def rejects_over_255(_: Records, documented: Refusal, row: Row, contact: Contact | None, seen: set[str]) -> str | None:
    """Reject a long value."""
    return documented(row, contact, seen) or ("apiSchemaViolation" if has_long_value(row) else None)


@instead_of("refusal")
def invalid_address_accepted(_: Records, documented: Refusal, row: Row, contact: Contact | None, seen: set[str]) -> str | None:
    """Accept an invalid address."""
    code = documented(row, contact, seen)
    return None if code == "invalidEmail" else code


@instead_of("refusal")
def unknown_id_creates(_: Records, documented: Refusal, row: Row, contact: Contact | None, seen: set[str]) -> str | None:
    """Accept an unknown contact ID."""
    code = documented(row, contact, seen)
    return None if code == "invalidContactId" else code


@instead_of("apply")
def unknown_id_ignored(account: Records, documented: Callable[..., None], row: Row, job: Any, seen: set[str]) -> None:
    """Skip a row with an unknown contact ID."""
    if row["matchIdentifier"] != "contactId" or int(row["identifiers"]["contactId"]) in account.contacts:
        documented(row, job, seen)


@instead_of("apply")
def imports_duplicates_silently(_: Records, documented: Callable[..., None], row: Row, job: Any, seen: set[str]) -> None:
    """Apply a duplicate like the first row, and report the contact once."""
    before = list(job.created), list(job.updated)
    documented(row, job, set())
    reported = [reference["contactId"] for reference in job.created + job.updated]
    if len(reported) != len(set(reported)):
        job.created, job.updated = before
    seen.clear()


# Identity


@instead_of("find", "distinguishes_capitals")
def find_exactly(account: Records, _: Callable[[str], Contact | None], email: str) -> Contact | None:
    """Find a contact whose address is spelled exactly like this."""
    return next((contact for contact in account.contacts.values() if contact.email == email.strip()), None)


@instead_of("identity", "distinguishes_capitals")
def exact_identity(_: Records, _documented: Callable[[Row], str], row: Row) -> str:
    """Return the identity without folding capitals."""
    match = row["matchIdentifier"]
    return f"{match}:{row['identifiers'].get(match)}"
