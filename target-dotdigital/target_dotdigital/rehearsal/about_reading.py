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
        implies=("filter_by_list", "lists_in_read_back"),
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
        if_wrong="Nothing: the sync reads all contacts of the account and does not use the filter.",
        consequence="You can activate: the sync does not use the filter. Report it to dotdigital's support.",
    ),
)
