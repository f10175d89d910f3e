"""The plan of a rehearsal: what each address is used for, and the code that confirms it. No I/O."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from target_dotdigital.addresses import is_address, normalise
from target_dotdigital.errors import SettingsError
from target_dotdigital.rehearsal.names import in_capitals, invalid

if TYPE_CHECKING:
    from target_dotdigital.dotdigital.full_contacts import Record
    from target_dotdigital.rehearsal.names import Names

MIN_ADDRESSES, MAX_ADDRESSES = 4, 10
# email statuses that count as a normal relation with the contact (contracts/dotdigital.md 7); all others are some kind of suppression
NOT_SUPPRESSED = frozenset({"subscribed", "unsubscribed", "pendingoptin", "nosubscription"})
LENGTHS = (255, 256, 1000, 1001)
# imports besides those with values of several lengths
OTHER_IMPORTS = 12


@dataclass(frozen=True, slots=True, eq=False)
class Participant:
    """One of the operator's addresses.

    Args:
        number: position in the setting, from 1.
        email: normalised address.
        before: the contact before the rehearsal wrote anything; None if it did not exist.
    """

    number: int
    email: str
    before: Record | None

    @property
    def name(self) -> str:
        """The participant's name in results, which hold no addresses."""
        return f"address {self.number}"

    @property
    def is_suppressed(self) -> bool:
        """Whether the contact was suppressed before the rehearsal."""
        return self.before is not None and self.before.email_status.lower() not in NOT_SUPPRESSED


@dataclass(frozen=True, slots=True)
class Plan:
    """What a rehearsal is going to do.

    Args:
        account_id: the account's ID.
        account: its name.
        names: the names that the rehearsal uses.
        participants: the operator's addresses.
        max_value_length: the setting to check.
        read_only: whether nothing is written.
    """

    account_id: int
    account: str
    names: Names
    participants: tuple[Participant, ...]
    max_value_length: int
    read_only: bool = False

    @property
    def new(self) -> list[Participant]:
        """Addresses that are not in the account, in the order of the setting."""
        return [one for one in self.participants if one.before is None]

    @property
    def existing(self) -> list[Participant]:
        """Addresses of contacts, in the order of the setting."""
        return [one for one in self.participants if one.before is not None]

    @property
    def cleared_when_new(self) -> Participant | None:
        """The address that is created with null; None if there is only one new address."""
        return self.new[1] if len(self.new) > 1 else None

    @property
    def worker(self) -> Participant:
        """The address that the experiments with values are made with."""
        usable = [one for one in self.existing if not one.is_suppressed]
        return (self.new or usable or self.existing)[0]

    @property
    def first(self) -> list[Participant]:
        """The addresses of the first import, which is one that the sync would send."""
        return [one for one in self.participants if one is not self.cleared_when_new]

    @property
    def lengths(self) -> list[int]:
        """Lengths of the values to write, in ascending order."""
        return sorted({*LENGTHS, self.max_value_length})

    @property
    def code(self) -> str:
        """The code that confirms this plan: account, names, addresses and their roles."""
        chosen = {
            "account": self.account_id,
            "names": [self.names.address_book, self.names.data_field.upper(), self.names.unknown_field.upper()],
            "addresses": [[one.email, one.before is None] for one in self.participants],
            "lengths": self.lengths,
        }
        text = base64.b32encode(hashlib.sha256(msgspec.json.encode(chosen, order="sorted")).digest()).decode()
        return f"{text[:4]}-{text[4:8]}-{text[8:12]}"

    def roles(self) -> list[str]:
        """Return what each address is used for, without the addresses."""
        return [f"{one.name}: {self._role(one)}" for one in self.participants]

    def lines(self) -> list[str]:
        """Return the plan for the screen; it names the operator's own addresses."""
        shown = [f"  {one.email}: {self._role(one)}" for one in self.participants]
        worker = self.worker.email
        return [
            f"Account:      {self.account} (id {self.account_id})",
            f"Address book: {self.names.address_book} (separate, private; created if it is missing)",
            f"Data field:   {self.names.data_field} (separate, private; created if it is missing)",
            "",
            "Addresses:",
            *shown,
            "",
            *self._missing(),
            "What the rehearsal writes:",
            f"  {OTHER_IMPORTS + len(self.lengths)} small imports into this address book and data field, with the import code of the sync;",
            "  only these addresses, and two texts derived from one of them:",
            f"  the address in capitals ({in_capitals(worker)}), and an invalid address ({invalid(worker)});",
            f"  one row for a data field that does not exist ({self.names.unknown_field}), and one for a contact ID that does not exist.",
            "It sends no status, opt-in type, preference or consent, and it deletes nothing: the result says what to remove by hand.",
            "dotdigital may send e-mails to the new addresses: a confirmation, if double opt-in is enforced for bulk uploads, and those of",
            "programs that start when a contact is created. It takes a few minutes, depending on how fast dotdigital processes imports.",
            "",
        ]

    def _role(self, one: Participant) -> str:
        if one.before is None:
            if one is self.cleared_when_new:
                return "not in the account: created without labels"
            return "not in the account: created with labels"
        lists, fields = len(one.before.lists or ()), len(one.before.fields)
        facts = f"{one.before.email_status}, {_count(lists, 'address book')}, {_count(fields, 'data field')} with values"
        return f"a contact ({facts}): must stay as it is"

    def _missing(self) -> list[str]:
        """Return a line for each kind of address that would allow more checks."""
        missing = []
        if not self.new:
            missing.append("an address that is not in the account: status and opt-in type of new contacts")
        if len(self.new) < 2:  # noqa: PLR2004 - one with labels, one without
            missing.append("another address that is not in the account: new contacts without labels")
        if not any(one.before and one.before.fields for one in self.existing):
            missing.append("a contact with values in other data fields: that these are kept")
        if not any(one.before and one.before.lists for one in self.existing):
            missing.append("a contact that is in another address book: that it stays there")
        if not any(not one.is_suppressed for one in self.existing):
            missing.append("a contact, best an unsubscribed one with preferences: that its consent is kept")
        if not any(one.is_suppressed for one in self.existing):
            missing.append("a suppressed contact: that it gets labels and stays suppressed")
        if not any(one.before and one.before.has_capitals for one in self.existing):
            missing.append("a contact that dotdigital shows with capitals in its address: that lower case finds it")
        if not missing:
            return []
        return ["Further addresses of yours would allow more checks:", *(f"  {line}" for line in missing), ""]


def check_addresses(addresses: tuple[str, ...]) -> tuple[str, ...]:
    """Return the normalised addresses of the setting `rehearsal_emails`.

    Raises:
        SettingsError: there are too few or too many, or one is a duplicate or no e-mail address.
    """
    normalised = tuple(normalise(address) for address in addresses)
    if not MIN_ADDRESSES <= len(normalised) <= MAX_ADDRESSES:
        msg = (
            f"rehearsal_emails has {_count(len(normalised), 'address', 'addresses')}: the rehearsal needs {MIN_ADDRESSES} to "
            f"{MAX_ADDRESSES}. Nothing was done. Name addresses of your own: some that are contacts, and at least two that are not."
        )
        raise SettingsError(msg)
    for position, address in enumerate(normalised):
        if not is_address(address):
            msg = f"rehearsal_emails: entry {position + 1} is not an e-mail address. Nothing was done. Correct it."
            raise SettingsError(msg)
        if address in normalised[:position]:
            msg = f"rehearsal_emails: entry {position + 1} is a duplicate. Nothing was done. Remove it, or name another address."
            raise SettingsError(msg)
    return normalised


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
