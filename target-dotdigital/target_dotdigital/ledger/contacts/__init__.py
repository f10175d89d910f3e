"""The ledger's contacts. The modules of this package are the only ones that write the contacts table."""

from __future__ import annotations

from target_dotdigital.ledger.contacts.desired import DesiredContacts
from target_dotdigital.ledger.contacts.named import Incoming, Known
from target_dotdigital.ledger.contacts.remote import RemoteContacts

__all__ = ["ContactLedger", "Incoming", "Known"]


class ContactLedger(DesiredContacts, RemoteContacts):
    """The contacts of one ledger scope, within one transaction.

    `DesiredContacts` stores what the source says, `RemoteContacts` what dotdigital holds; see `ContactQueries` for the arguments.
    """
