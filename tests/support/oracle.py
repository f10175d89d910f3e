"""What the account must look like, computed from the export alone and by other means than the plugins use."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nosto_dotdigital_sandbox import Contact, Sandbox

FIELD = "NOSTOSEGMENT"
BOOK = "Nosto contacts"
ADDRESS = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")


def expected(body: bytes, include: Sequence[str] = ("*",), exclude: Sequence[str] = ()) -> dict[str, list[str]]:
    """Give every valid address of an export, folded, with its chosen names in order."""
    found: dict[str, set[str]] = {}
    for line in body.decode().split("\n"):
        if not line.strip():
            continue
        record = json.loads(line)
        (names,) = (value for key, value in record.items() if key != "email")
        email = record["email"].strip().lower()
        if ADDRESS.fullmatch(email):
            chosen = {n for n in names if any(fnmatchcase(n, p) for p in include) and not any(fnmatchcase(n, p) for p in exclude)}
            found[email] = found.get(email, set()) | chosen
    return {email: sorted(names) for email, names in found.items()}


def folded(contacts: dict[str, Contact]) -> dict[str, Contact]:
    """Give contacts by their folded address; two of one address are a failure."""
    by_email: dict[str, Contact] = {}
    for email, contact in contacts.items():
        assert email.strip().lower() not in by_email, "a contact is there twice"
        by_email[email.strip().lower()] = contact
    return by_email


def assert_account(
    sandbox: Sandbox,
    wanted: dict[str, list[str]],
    before: dict[str, Contact] | None = None,
    gone: Sequence[str] = (),
) -> None:
    """Compare the whole account with what is wanted, field by field.

    Args:
        sandbox: the stand-in.
        wanted: address -> names.
        before: the contacts of before the first run: all that is not ours must be as it was.
        gone: contacts that were removed from the export: there, without labels.
    """
    now = folded(sandbox.account.snapshot())
    earlier = folded(before or {})
    books = [book for book in sandbox.account.books.values() if book.name == BOOK]
    assert len(books) == 1, "the address book is there once"
    wrong = {
        email: (now[email].data_fields.get(FIELD) if email in now else "missing", ";".join(names))
        for email, names in wanted.items()
        if email not in now or now[email].data_fields.get(FIELD, "") != ";".join(names)
    }
    assert not wrong, f"{len(wrong)} contacts have wrong labels, such as {next(iter(wrong.items()))}"
    assert not [email for email in wanted if books[0].id not in now[email].lists], "every address is in the book"
    for email in gone:
        assert FIELD not in now[email].data_fields, "removed contacts have no labels"
    assert set(now) == set(wanted) | set(earlier) | set(gone), "nobody else was created, nobody deleted"
    for email, contact in now.items():
        if email in earlier:
            old = earlier[email]
            assert (contact.id, contact.email, contact.status, contact.opt_in_type) == (
                old.id,
                old.email,
                old.status,
                old.opt_in_type,
            )
            assert (contact.preferences, contact.consent) == (old.preferences, old.consent)
            assert contact.lists - {books[0].id} == old.lists - {books[0].id}
            ours = {FIELD}
            assert {k: v for k, v in contact.data_fields.items() if k not in ours} == {
                k: v for k, v in old.data_fields.items() if k not in ours
            }
        else:
            assert (contact.status, contact.opt_in_type) == ("subscribed", "Unknown")
            assert set(contact.data_fields) <= {FIELD}
