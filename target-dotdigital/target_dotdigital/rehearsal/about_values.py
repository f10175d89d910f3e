"""Assumptions about the values of the data field. Data only."""

from __future__ import annotations

from target_dotdigital.rehearsal.assumption import Assumption

VALUES = (
    Assumption(
        id="null_clears",
        title="Labels can be cleared",
        statement="The value null empties the data field of an existing contact.",
        source="contracts/dotdigital.md 4",
        grade="A",
        check="Write a value, import null, and read the contact.",
        expected="The field is empty.",
        by_hand="Not possible: an import from a file has no null.",
        if_wrong=(
            "Contacts that leave all their segments would keep the names, although dotdigital reports the rows as updated. The "
            "sync looks up one of them after each delivery, and fails."
        ),
        consequence="Do not activate: labels could not be removed. Report it to dotdigital's support.",
    ),
    Assumption(
        id="null_harmless_for_new",
        title="New contacts without labels",
        statement="A row that has null for the data field and an unknown address creates the contact with an empty field.",
        source="contracts/dotdigital.md 12.6",
        grade="D",
        check="Import null for an address that the account does not know, and read the contact.",
        expected="The contact exists, and the field is empty.",
        by_hand="Not possible: an import from a file has no null.",
        if_wrong=(
            "New contacts that are in none of the chosen segments are rejected: they are missing in the address book, "
            "are counted as rejected, and are sent again with growing pauses."
        ),
        consequence=(
            "Do not activate with upload_emails set to all: new contacts without segments would be rejected. Set upload_emails to "
            "with_segments or none."
        ),
    ),
    Assumption(
        id="absent_field_kept",
        title="A row without the field leaves it alone",
        statement="A row that does not name the data field leaves its value as it is.",
        source="contracts/dotdigital.md 4",
        grade="A",
        check="Write a value, import the contact with the address book only, and read it.",
        expected="The value is still there.",
        by_hand="Import a contact from a file without the field's column, and look at the field.",
        if_wrong=(
            "Another integration that imports the same contacts would delete their labels. The sync restores them at its next "
            "full comparison."
        ),
        consequence=(
            "You can activate if no other integration imports contacts. Otherwise run --reconcile after that integration, and "
            "report it to dotdigital's support."
        ),
    ),
    Assumption(
        id="value_length",
        title="Long values survive",
        statement="A text of up to max_value_length characters is stored unchanged.",
        source="contracts/dotdigital.md 3",
        grade="C for 1,000 characters, A (old) for 255; D for what happens beyond",
        check=("Write values of 255, 256, 1,000, 1,001 and max_value_length characters, one import each, and read them back."),
        expected="Every value of up to max_value_length characters comes back unchanged.",
        by_hand="Paste a text of 1,000 characters into the field of a test contact, save, and count what is left.",
        if_wrong=(
            "Names of contacts in many segments would be cut, or their rows rejected, or their whole import would fail, "
            "together with up to contacts_per_import other contacts. A cut value is found when delivered contacts are looked "
            "up, and the run fails."
        ),
        consequence=("Set max_value_length to the longest value that came back unchanged, and rehearse again before you activate."),
    ),
    Assumption(
        id="text_exact",
        title="Names come back exactly",
        statement=(
            "Delimiters, commas, quotes, apostrophes, markup, accents, emoji and spaces at both ends are stored as they were sent."
        ),
        source="contracts/dotdigital.md 3",
        grade="D",
        check="Write one value with delimiters, quotes, markup, accents, emoji and spaces at both ends, and read it back.",
        expected="The value is the same, character by character.",
        by_hand="Type such a name into the field of a test contact, save and reopen it.",
        if_wrong=(
            "Rules that compare with the exact name would not match. The sync looks up the delivered contact with the most "
            "unusual characters, and fails."
        ),
        consequence=(
            "Rename the affected segments with segment_labels so that their labels avoid these characters, then activate. Names "
            "without such characters are not affected."
        ),
    ),
)
