"""Assumptions about imports: matching, rejections, and the report of an import. Data only."""

from __future__ import annotations

from target_dotdigital.rehearsal.assumption import Assumption

IMPORTS = (
    Assumption(
        id="case_insensitive_addresses",
        title="Capitals in addresses do not matter",
        statement="The same address in other capitals is the same contact.",
        source="contracts/dotdigital.md 4, 11",
        grade="D",
        check=("Import your address in capitals, and see whether dotdigital updates the contact or creates a second one."),
        expected="The contact is updated, and no other is created.",
        by_hand="Add an address of yours in capitals in dotdigital, and see whether it says that the contact exists.",
        if_wrong=(
            "The sync writes addresses in lower case. Contacts stored with capitals would exist twice, and get e-mails twice. A "
            "run that reads the account back says so, and ends as partly delivered."
        ),
        consequence=(
            "Do not activate with upload_emails other than none. Set upload_emails to none, and ask dotdigital's support how it compares "
            "addresses."
        ),
        implies=("duplicates_reported",),
    ),
    Assumption(
        id="stored_capitals",
        title="Addresses that are stored with capitals",
        statement="A row with an address in lower case updates the contact that dotdigital stores with capitals.",
        source="contracts/dotdigital.md 13.11",
        grade="D; dotdigital's own extension met contacts for which such a call was refused (B)",
        check="Import labels in lower case for an address of yours that dotdigital stores with capitals, and read the contact.",
        expected="The contact that was there before has the labels, and no other is created.",
        by_hand=(
            "Edit the address of a contact of yours in dotdigital so that it has capitals, import it in lower case from a file, and look "
            "again."
        ),
        if_wrong=(
            "If such rows are refused, these contacts keep old labels, and count as rejected; all others are delivered. If another contact "
            "is created, it gets the labels, and perhaps e-mails twice."
        ),
        consequence=(
            "If the row was refused: you can activate; correct the addresses that `rejected` lists to lower case in dotdigital. If another "
            "contact was created: set upload_emails to none, and report it to dotdigital's support."
        ),
    ),
    Assumption(
        id="duplicates_reported",
        title="Duplicates in an import are reported",
        statement="If one import names the same contact twice, dotdigital reports a failure for one of the rows.",
        source="contracts/dotdigital.md 4",
        grade="B",
        check="Import the same address twice, in two spellings, with two values.",
        expected="One row is imported, and the other is reported as a duplicate.",
        by_hand="Import a file that contains an address twice, and read the import report.",
        if_wrong=(
            "The sync never sends a contact twice in one import, so nothing would happen. A defect there would stay unnoticed."
        ),
        consequence="You can activate: the sync removes duplicates before it sends. Report it to dotdigital's support.",
    ),
    Assumption(
        id="id_match_never_creates",
        title="Matching by contact ID never creates",
        statement=(
            "A row that is matched by contact ID updates that contact. An ID that does not exist is reported as a failure, and "
            "creates nothing."
        ),
        source="contracts/dotdigital.md 4, 11",
        grade="B for the match; D for the failure of an unknown ID",
        check=("Update your contact by its ID; then send an ID that was not found immediately before, and look it up again."),
        expected="The contact is updated; the unknown ID is reported with a code, and still does not exist.",
        by_hand="Not possible in the user interface.",
        if_wrong=(
            "Clearing the labels of a contact that was deleted in dotdigital would create a contact again, or leave the row "
            "unconfirmed, so that it is sent again in every run."
        ),
        consequence=(
            "Do not activate with on_removed set to clear, or with upload_emails set to none: these match contacts by ID. Set "
            "on_removed to keep, and report it to dotdigital's support."
        ),
    ),
    Assumption(
        id="ids_are_stable",
        title="Contact IDs are reliable",
        statement="The contact ID in an import's report is the ID of the contact with that address.",
        source="contracts/dotdigital.md 4",
        grade="A",
        check="Look up every imported address, and compare its contact ID with the one in the import's report.",
        expected="The IDs are the same.",
        by_hand="Not possible in the user interface.",
        if_wrong=(
            "Removed contacts are matched by ID: other contacts would lose their labels. A report that names another address "
            "for an ID is not believed, the IDs of delivered contacts are compared, and the run fails."
        ),
        consequence="Do not activate. Report it to dotdigital's support.",
    ),
    Assumption(
        id="invalid_address_rejected_alone",
        title="An invalid address fails alone",
        statement=(
            "A row that dotdigital does not accept costs no other row: it is reported with a code, or the call is refused, and accepted "
            "without this row."
        ),
        source="contracts/dotdigital.md 4, 13.1, 13.3",
        grade="A, B for the code; B for the refused call",
        check="Import an invalid address together with a valid one; if the call is refused, narrow it down as the sync does.",
        expected="The invalid address has a code, and the other contact has its value.",
        by_hand="Import a file with an invalid and a valid address, and read the import report.",
        if_wrong=(
            "dotdigital may refuse a whole call because of one row. The sync then finds the row, by the index that the answer names or by "
            "halving the import, sends it alone, and rejects it if it is refused again; all others are delivered in the same run. A run "
            "makes up to 500 such calls; what is left waits for the next one. If an import fails only after it was accepted, nothing shows "
            "which row is to blame, and its contacts stay pending. If the address is accepted, contacts that can never receive e-mail are "
            "created."
        ),
        consequence=(
            "If the whole import failed: set contacts_per_import low (100) before you activate, so that few contacts are "
            "affected. If the address was accepted: you can activate; remove the contact by hand."
        ),
    ),
    Assumption(
        id="unknown_field_reported",
        title="An unknown data field is reported",
        statement="A row that names a data field that does not exist is reported as a failure, or the call is refused.",
        source="contracts/dotdigital.md 12.3",
        grade="D",
        check="Import a value for a data field that is not in the account's list of fields.",
        expected="The row is reported with a code, or the call is refused.",
        by_hand="Not possible in the user interface.",
        if_wrong=(
            "If someone deletes the data field during a run, dotdigital reports success although no label arrives. The look-up "
            "after the delivery fails the run, and the next run creates the field and sends all labels again."
        ),
        consequence="You can activate. Protect the data field from deletion; after an accident run --reconcile.",
    ),
    Assumption(
        id="report_names_every_row",
        title="The import's report is complete",
        statement=(
            "The report of a finished import names every row as created, updated or failed, with the contact's ID if it was "
            "imported."
        ),
        source="contracts/dotdigital.md 4, 12.9",
        grade="A, B; D for large imports",
        check="Compare the rows of the first import with its report.",
        expected="Every row is named; imported ones have an ID.",
        by_hand="Compare the numbers of an import report with the rows of the file.",
        if_wrong=(
            "Rows that are not named count as unconfirmed: they are sent again in every run, and no run is reported as "
            "complete. Without IDs, removed contacts are looked up one by one before they are cleared."
        ),
        consequence=("Do not activate: no run could become complete. Report it to dotdigital's support with the ID of the import."),
        implies=("duplicates_reported",),
    ),
    Assumption(
        id="results_visible",
        title="Results are visible at once",
        statement="What a finished import has written is visible in the next read.",
        source="contracts/dotdigital.md 9, 12",
        grade="D",
        check="Read the contacts immediately after the import has finished, and again until the values are there.",
        expected="The first read shows the new values.",
        by_hand="Open a contact right after an import of it has finished.",
        if_wrong=(
            "A run waits up to verify_timeout until what it delivered is visible, and fails if it is not. A comparison that "
            "starts too early sees old values, and sends the same labels again. Nothing is lost."
        ),
        consequence=(
            "Set verify_timeout to more than it took, and do not run --reconcile directly after a run. If the values never became "
            "visible: do not activate."
        ),
    ),
)
