"""Assumptions about new and existing contacts: consent, other data, address books. Data only."""

from __future__ import annotations

from target_dotdigital.rehearsal.assumption import Assumption

CONTACTS = (
    Assumption(
        id="new_contact_status",
        title="Status of new contacts",
        statement="A contact that an import creates without a status is subscribed to e-mail.",
        source="contracts/dotdigital.md 7",
        grade="A, B",
        check="Import an address that the account does not know, and read the contact.",
        expected="Status subscribed.",
        by_hand="Import one address of yours from a file without a status, then open the contact.",
        if_wrong=(
            "With the status pendingOptIn, dotdigital sends every new contact a confirmation e-mail, and adds it to the address book only "
            "when it has confirmed; its labels are written all the same. With any other status, new contacts cannot receive e-mail."
        ),
        consequence=(
            "Do not activate. If the status is pendingOptIn, double opt-in is enforced for bulk uploads: change it under "
            "Settings > General > Account settings, or set upload_emails to none."
        ),
        implies=("added_to_address_book",),
    ),
    Assumption(
        id="new_contact_opt_in_type",
        title="Opt-in type of new contacts",
        statement=(
            "A contact that an import creates without an opt-in type has the opt-in type Unknown: the sync claims no consent."
        ),
        source="contracts/dotdigital.md 7",
        grade="A, B",
        check="Import an address that the account does not know, and read the contact.",
        expected="Opt-in type Unknown.",
        by_hand="Open a contact that an import without an opt-in type has created, and look at its e-mail opt-in type.",
        if_wrong="New contacts would show evidence of a consent that nobody gave.",
        consequence=(
            "Do not activate with upload_emails other than none. Ask dotdigital's support for the account's default opt-in type."
        ),
    ),
    Assumption(
        id="existing_consent_kept",
        title="Consent of existing contacts",
        statement=(
            "An import that states no status, opt-in type, preference or consent record leaves those of an existing contact as "
            "they are."
        ),
        source="contracts/dotdigital.md 7",
        grade="B; D for preferences, which no document mentions",
        check="Read existing contacts completely, import labels for them, and read them again.",
        expected="Status, opt-in type, preferences and consent records are the same before and after.",
        by_hand=(
            "Note the consent of an unsubscribed address of yours, import it with one data field from a file, and look again."
        ),
        if_wrong="A run could subscribe people who have unsubscribed.",
        consequence="Do not activate. Report it to dotdigital's support.",
        implies=("suppressed_kept",),
    ),
    Assumption(
        id="other_fields_kept",
        title="Other data of existing contacts",
        statement="Data fields that a row does not name keep their values.",
        source="contracts/dotdigital.md 4",
        grade="A",
        check="Compare every data field of existing contacts before and after the import.",
        expected="Only the rehearsal's data field has changed.",
        by_hand="Note the first name of a contact, import only another field for it, and look again.",
        if_wrong="A run would delete customer data such as names and postcodes.",
        consequence="Do not activate. Report it to dotdigital's support.",
        implies=("absent_field_kept",),
    ),
    Assumption(
        id="added_to_address_book",
        title="Contacts join the address book",
        statement="A row with the ID of an address book adds the contact to it, whether the contact is new or not.",
        source="contracts/dotdigital.md 4",
        grade="B",
        check=("Import new and existing contacts with the rehearsal's address book, and read which address books they are in."),
        expected="Every imported contact is in the rehearsal's address book.",
        by_hand="Open the address book and look for the addresses.",
        if_wrong=(
            "The address book would not contain all uploaded contacts. The sync looks up some of the contacts that it has "
            "delivered, and fails."
        ),
        consequence="Do not activate with upload_emails other than none. Set upload_emails to none if you need only the data field.",
    ),
    Assumption(
        id="other_lists_kept",
        title="Other address books are kept",
        statement="Adding a contact to an address book does not remove it from others.",
        source="contracts/dotdigital.md 4",
        grade="B",
        check="Compare the address books of existing contacts before and after the import.",
        expected="Every address book that the contact was in is still there.",
        by_hand="Note the lists of a contact, import it into another list, and look again.",
        if_wrong="A run would remove all contacts from their address books.",
        consequence="Do not activate with upload_emails other than none. Report it to dotdigital's support.",
    ),
    Assumption(
        id="suppressed_kept",
        title="Suppressed and unsubscribed contacts",
        statement="A suppressed or unsubscribed contact gets its labels like any other and keeps its status.",
        source="contracts/dotdigital.md 0, 7",
        grade="A; the specification's words on suppressed contacts (B) allow another reading",
        check="Import labels for a suppressed (else an unsubscribed) address of yours, and read the contact.",
        expected="The labels have arrived, and the status is the same as before.",
        by_hand="Suppress an address of yours, import a data field for it, and open the contact.",
        if_wrong=(
            "If such rows are rejected, these contacts keep old labels; the report counts them as rejected. If the status "
            "changes, people who do not want e-mails get some."
        ),
        consequence=(
            "If the status has changed: do not activate, and report it to dotdigital's support. If the row was rejected: you "
            "can activate; such contacts stay without labels and count as rejected, so max_rejected_percent may have to be "
            "higher for the first run."
        ),
    ),
)
