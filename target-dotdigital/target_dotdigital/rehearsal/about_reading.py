"""Assumptions about reading the account back. Data only."""

from __future__ import annotations

from target_dotdigital.rehearsal.assumption import Assumption

READING = (
    Assumption(
        id="read_back_pages",
        title="The account can be read completely",
        statement=(
            "GET /contacts/v3 lists contacts by ascending ID, page by page, and links to the next page as long as there is one."
        ),
        source="contracts/dotdigital.md 4",
        grade="B",
        check="Read the first pages with one contact each, and follow the links.",
        expected=("Every page has a new contact with a higher ID, and the list does not end before the known number of contacts."),
        by_hand="Compare the number of contacts that --reconcile has read with the number that dotdigital shows.",
        if_wrong=(
            "If pages repeat, the run stops with an error. If the list ends too early, contacts look as if they did not exist: "
            "their labels are sent again, and orphaned labels stay. If many contacts of the address book are missing, the run "
            "says so and ends as partly delivered."
        ),
        consequence="Do not activate. Report it to dotdigital's support.",
        implies=("filter_by_list", "filter_by_creation", "lists_in_read_back"),
    ),
    Assumption(
        id="lists_in_read_back",
        title="Address books are visible in the list",
        statement="With include=lists, the list of contacts names the address books of each contact.",
        source="contracts/dotdigital.md 4",
        grade="B",
        check="List the contacts of the rehearsal's address book with include=lists.",
        expected="Your contacts are listed with the rehearsal's address book.",
        by_hand="Not possible in the user interface.",
        if_wrong=(
            "Every contact looks as if it were missing from the address book: each full comparison sends all contacts again."
        ),
        consequence=(
            "You can activate, but each run with --full-refresh and each --reconcile will send all contacts again. Set "
            "upload_emails to none if the address book does not matter."
        ),
    ),
    Assumption(
        id="filter_by_list",
        title="The filter by address book works",
        statement="GET /contacts/v3 with ~listId lists the contacts of that address book only.",
        source="contracts/dotdigital.md 4",
        grade="B",
        check="List the contacts of the rehearsal's address book, and compare them with the contacts that are in it.",
        expected="All of your contacts in the address book, and no others.",
        by_hand="Not possible in the user interface.",
        if_wrong="Nothing: the sync does not use the filter.",
        consequence="You can activate: the sync does not use the filter. Report it to dotdigital's support.",
    ),
    Assumption(
        id="filter_by_creation",
        title="The filter by time of creation works",
        statement="GET /contacts/v3 with ~created lists the contacts that were created since a time (UTC), and no others.",
        source="contracts/dotdigital.md 4",
        grade="B",
        check=(
            "List the contacts that were created since one hour before the rehearsal, as an incremental run does, and look for the "
            "contacts that the rehearsal has created and for the first contacts of the account."
        ),
        expected="The contacts that the rehearsal has created are listed, and no contact that was created earlier.",
        by_hand=(
            "Delete a contact of your own in dotdigital that is in the source, create it again, and look whether the next run writes "
            "its labels."
        ),
        if_wrong=(
            "If the filter shows nothing, contacts that sign up in dotdigital, or come back after they were deleted, get no labels "
            "until a run with --full-refresh, or the run after a --reconcile. If it is ignored, every run reads the whole account."
        ),
        consequence=(
            "You can activate, but run --reconcile regularly: the run after it writes the labels of new contacts. Report it to "
            "dotdigital's support."
        ),
    ),
)
