"""The switches that make a service behave otherwise than its published documents, or our reading of them, say."""

from __future__ import annotations

# importing these modules registers their replacements
import nosto_dotdigital_sandbox.deviating_answers
import nosto_dotdigital_sandbox.deviating_imports
import nosto_dotdigital_sandbox.deviating_reports  # noqa: F401
from nosto_dotdigital_sandbox.live import LIVE
from nosto_dotdigital_sandbox.nosto_deviations import NOSTO

__all__ = ["DOTDIGITAL", "LIVE", "NOSTO"]

# switch -> what dotdigital does if it is on
DOTDIGITAL = {
    # login and permissions
    "account_info_names_wrong_region": "The account information names a region that denies the account access.",
    "contacts_not_readable": "The API user may not read contacts: 403.",
    "imports_not_permitted": "The API user may not submit imports: 403.",
    "programs_hidden": "The API user may not list programs: 403.",
    "no_rate_limit_headers": "Responses have no rate-limit headers.",
    # address book and data fields
    "creates_public": "Address books and data fields are created public, although private was asked for.",
    "renames_fields": "A data field that the API creates gets another name than the one that was asked for.",
    # new contacts
    "new_contacts_pending": "A new contact is created with the status pendingOptIn.",
    "new_contacts_single_opt_in": "A new contact is created with the opt-in type Single.",
    # existing contacts
    "resets_status": "An import subscribes an unsubscribed contact.",
    "resets_opt_in_type": "An import sets the opt-in type of an existing contact to Unknown.",
    "resets_preferences": "An import removes the marketing preferences of an existing contact.",
    "blanks_other_fields": "A row that states a data field empties all others of the contact.",
    "resubscribes": "An import subscribes a suppressed contact.",
    "suppressed_rejected": "A row for a suppressed contact is rejected.",
    # address books of contacts
    "ignores_lists": "An import does not add contacts to the address book.",
    "replaces_lists": "An import removes the contact from all address books that its row does not state.",
    # clearing
    "ignores_null": "A null leaves the data field unchanged.",
    "rejects_null_on_new": "A row for a new contact is rejected if it holds a null.",
    "absent_field_clears": "A row that leaves out a data field that the API created empties it.",
    # values
    "cuts_at_255": "Values are cut to 255 characters.",
    "rejects_over_255": "A row with a value of more than 255 characters is rejected.",
    "fails_import_over_255": "An import with a value of more than 255 characters fails.",
    "trims_values": "Leading and trailing spaces of values are removed.",
    "escapes_quotes": "Quotation marks in values are stored as &quot;.",
    "drops_emoji": "Emoji in values are dropped.",
    # identity
    "capitals_refused": "An import that writes an address in lower case whose contact is stored with capitals is refused as a whole.",
    "distinguishes_capitals": "Addresses that differ only in capitals are different contacts.",
    "imports_duplicates_silently": "Of several rows for one address in an import, the last one counts, and the report does not say so.",
    "unknown_id_creates": "A row that matches an unknown contact ID creates a contact without an address.",
    "unknown_id_ignored": "A row that matches an unknown contact ID is in no part of the report.",
    "reuses_ids": "The report of an import names, for each contact, the ID of another.",
    # invalid rows
    "invalid_address_fails_import": "An import with an invalid address fails.",
    "invalid_address_accepted": "An invalid address becomes a contact.",
    "unknown_field_ignored": "An unknown data field in a row is ignored, and the row is accepted.",
    # reports and reads
    "report_omits_rows": "The report of an import leaves out a contact that was created and one that was updated.",
    "report_without_ids": "The report of an import names contacts without their IDs.",
    "read_back_lags": "A finished import becomes visible only some reads later.",
    "pages_repeat": "Every page of contacts is the first page.",
    "paging_stops_early": "The first page of contacts names no next page, although there are more contacts.",
    "include_lists_missing": "Contacts are read without their address books, although these were asked for.",
    "list_filter_ignored": "Reads of contacts ignore the filter by address book.",
    "created_filter_ignored": "Reads of contacts ignore the filter by time of creation.",
    "created_filter_shows_nothing": "Reads of contacts with the filter by time of creation show no contacts.",
}
