"""What each deviation of dotdigital does: which assumption the rehearsal then refutes, and what the sync does."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any


class Sync(enum.Enum):
    """What the sync does if dotdigital deviates; the detail of a row in brackets."""

    CANNOT_READ = "Every run fails before it writes anything. (Part of the message.)"
    LEAVES_PENDING = "The run fails; contacts without a result stay pending, and so does the bookmark. (Confirmed contacts.)"
    LOOKS_UP_DELETED = "The run that clears a deleted contact fails; the next one looks it up. (Contacts that dotdigital created.)"
    REJECTS = "The contacts are counted and listed as rejected; all others are delivered. (Code, and contacts.)"
    DELIVERS = "Nothing is wrong. (Contacts that a full refresh sends at most.)"
    FAILS_LOOK_UP = "The run fails: contacts that it looks up do not hold what was sent. (Whether the first load does.)"
    DOES_NOT_READ_IT = "The sync does not read this, and claims nothing about it. Only the rehearsal shows it."
    TEST_OF_ITS_OWN = "See the test of its own."


@dataclass(frozen=True, slots=True)
class Expected:
    """What is expected while a switch is on.

    Args:
        refutes: the assumption that the rehearsal refutes; empty if the sync does not depend on it.
        sync: what the sync does.
        detail: see `Sync`.
        stops: part of the message with which the rehearsal stops; empty if it does not.
    """

    refutes: str
    sync: Sync
    detail: Any = None
    stops: str = ""


NEW_WITHOUT_LABELS = {"plain@example.com", "empty@example.com"}
# the contacts are those of pipeline/test_wrong_assumptions.py
DEVIATIONS = {
    # login and permissions
    "account_info_names_wrong_region": Expected("", Sync.CANNOT_READ, "denied access", stops="denied access"),
    "contacts_not_readable": Expected("", Sync.CANNOT_READ, "denied access to 'contacts'", stops="denied access to 'contacts'"),
    "imports_not_permitted": Expected("permissions", Sync.LEAVES_PENDING, 0),
    "programs_hidden": Expected("", Sync.DELIVERS, 0),
    "no_rate_limit_headers": Expected("", Sync.DELIVERS, 0),
    # address book and data fields
    "creates_public": Expected("names_created_privately", Sync.TEST_OF_ITS_OWN),
    "renames_fields": Expected("", Sync.TEST_OF_ITS_OWN, stops="another data field than"),
    # new contacts
    "new_contacts_pending": Expected("new_contact_status", Sync.DOES_NOT_READ_IT),
    "new_contacts_single_opt_in": Expected("new_contact_opt_in_type", Sync.DOES_NOT_READ_IT),
    # existing contacts
    "resets_status": Expected("existing_consent_kept", Sync.DOES_NOT_READ_IT),
    "resets_opt_in_type": Expected("existing_consent_kept", Sync.DOES_NOT_READ_IT),
    "resets_preferences": Expected("existing_consent_kept", Sync.DOES_NOT_READ_IT),
    "blanks_other_fields": Expected("other_fields_kept", Sync.DOES_NOT_READ_IT),
    "resubscribes": Expected("suppressed_kept", Sync.DOES_NOT_READ_IT),
    "suppressed_rejected": Expected("suppressed_kept", Sync.REJECTS, ("globallySuppressed", {"suppressed@example.com"})),
    # address books of contacts
    "ignores_lists": Expected("added_to_address_book", Sync.FAILS_LOOK_UP, detail=True),
    "replaces_lists": Expected("other_lists_kept", Sync.DOES_NOT_READ_IT),
    # clearing
    "ignores_null": Expected("null_clears", Sync.FAILS_LOOK_UP, detail=False),
    "rejects_null_on_new": Expected("null_harmless_for_new", Sync.REJECTS, ("apiSchemaViolation", NEW_WITHOUT_LABELS)),
    # every row of the sync contains every label field that has a value
    "absent_field_clears": Expected("", Sync.DELIVERS, 0),
    # values
    "cuts_at_255": Expected("value_length", Sync.FAILS_LOOK_UP, detail=True),
    "rejects_over_255": Expected("value_length", Sync.REJECTS, ("apiSchemaViolation", {"long@example.com"})),
    "fails_import_over_255": Expected("value_length", Sync.LEAVES_PENDING, 0),
    "trims_values": Expected("text_exact", Sync.FAILS_LOOK_UP, detail=True),
    "escapes_quotes": Expected("text_exact", Sync.FAILS_LOOK_UP, detail=True),
    "drops_emoji": Expected("text_exact", Sync.FAILS_LOOK_UP, detail=True),
    # identity
    "capitals_refused": Expected("stored_capitals", Sync.REJECTS, ("contacts:invalidValue", {"double@example.com"})),
    "distinguishes_capitals": Expected("case_insensitive_addresses", Sync.TEST_OF_ITS_OWN),
    # the sync sends no contact twice in one import
    "imports_duplicates_silently": Expected("", Sync.DELIVERS, 0),
    "unknown_id_creates": Expected("id_match_never_creates", Sync.LOOKS_UP_DELETED, 1),
    "unknown_id_ignored": Expected("id_match_never_creates", Sync.LOOKS_UP_DELETED, 0),
    "reuses_ids": Expected("ids_are_stable", Sync.TEST_OF_ITS_OWN),
    # invalid rows
    "invalid_address_fails_import": Expected("invalid_address_rejected_alone", Sync.LEAVES_PENDING, 0),
    "invalid_address_accepted": Expected("invalid_address_rejected_alone", Sync.DELIVERS, 0),
    # a run looks for its data fields, and creates them, before it sends a row
    "unknown_field_ignored": Expected("", Sync.DELIVERS, 0),
    # reports and reads
    "report_omits_rows": Expected("report_names_every_row", Sync.LEAVES_PENDING, 10),
    "report_without_ids": Expected("report_names_every_row", Sync.DELIVERS, 0),
    "read_back_lags": Expected("results_visible", Sync.DELIVERS, 0),
    "pages_repeat": Expected("read_back_pages", Sync.CANNOT_READ, "does not come to an end"),
    "paging_stops_early": Expected("read_back_pages", Sync.DELIVERS, 9),
    "include_lists_missing": Expected("lists_in_read_back", Sync.DELIVERS, 12),
    # the sync never filters by address book
    "list_filter_ignored": Expected("", Sync.DELIVERS, 0),
    "created_filter_ignored": Expected("filter_by_creation", Sync.DELIVERS, 0),
    "created_filter_shows_nothing": Expected("filter_by_creation", Sync.DELIVERS, 0),
}


def deviations_that(sync: Sync) -> list[tuple[str, Any]]:
    """Return the deviations with which the sync does something, and the detail of each."""
    return [(switch, expected.detail) for switch, expected in DEVIATIONS.items() if expected.sync is sync]
