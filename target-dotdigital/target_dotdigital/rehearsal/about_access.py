"""Assumptions about login, permissions, names, rate limits and programs. Data only."""

from __future__ import annotations

from target_dotdigital.rehearsal.assumption import Assumption

ACCESS = (
    Assumption(
        id="login_and_region",
        title="Login and region",
        statement=(
            "account-info answers in any region and names the API address of the account's own region, which accepts the login."
        ),
        source="contracts/dotdigital.md 1",
        grade="A",
        check="Call account-info at api_url, then again at the API address that it names.",
        expected="Both calls succeed.",
        by_hand=(
            "Settings > Access > API users shows the API endpoint of the account. Compare it with the region that --check prints."
        ),
        if_wrong="Every run stops at its first call, before it writes anything.",
        consequence=("Do not activate. Set api_url to the API endpoint that dotdigital shows under Settings > Access > API users."),
    ),
    Assumption(
        id="permissions",
        title="Permissions of the API user",
        statement=(
            "The API user may make every call of the sync: read contacts, address books and data fields, and submit imports."
        ),
        source="contracts/dotdigital.md 1",
        grade="D: no permissions per call are documented",
        check="Make each of these calls once.",
        expected="No call is denied (status 403).",
        by_hand="Settings > Access > API users: the user is enabled. Users and roles: no restriction applies to it.",
        if_wrong="The run fails at the call that is denied. If imports are denied, nothing is written.",
        consequence="Do not activate. Let the account's owner create an API user without restrictions, and rehearse again.",
    ),
    Assumption(
        id="names_created_privately",
        title="Private address book and data field",
        statement="Address books and data fields that the API creates have the requested name and the visibility Private.",
        source="contracts/dotdigital.md 2, 3",
        grade="B",
        check=(
            "Create the rehearsal's address book and data field (or find those of an earlier rehearsal), and read their names "
            "and visibility."
        ),
        expected="Both are private, and dotdigital spells their names as requested, apart from capitals.",
        by_hand="Contacts > Lists and Contacts > Data fields: look up name and visibility.",
        if_wrong=(
            "Contacts could see a public address book by name in a preference centre. The run that creates it says so and stops "
            "before it writes a contact; so does one that gets a field with another name."
        ),
        consequence=(
            "Create address book and data field by hand in dotdigital, private, with the names of the settings address_book and "
            "data_field. Then activate."
        ),
    ),
    Assumption(
        id="rate_limit_headers",
        title="Rate limits are announced",
        statement="Responses carry X-RateLimit headers with the tier, the limit and the calls that are left.",
        source="contracts/dotdigital.md 6",
        grade="A, B",
        check="Read the headers of all responses of the rehearsal.",
        expected="The headers are there for imports or reads of contacts, with a limit for each tier.",
        by_hand="Settings > Access > API rate limits shows the account's tiers.",
        if_wrong=(
            "The sync cannot slow down before it reaches a limit. It reacts to status 429 and waits, or to the old hourly cap, "
            "so it is slower but loses nothing."
        ),
        consequence=(
            "You can activate. Look up the limits under Settings > Access > API rate limits; for a large first load, set "
            "max_contacts_per_run."
        ),
    ),
    Assumption(
        id="programs_visible",
        title="Active programs are visible",
        statement="The API user may list the account's programs, so that the review can name the active ones.",
        source="contracts/dotdigital.md 8",
        grade="B",
        check="List the programs.",
        expected="The list is readable.",
        by_hand="Open the programs in dotdigital and note which are active and on what they start.",
        if_wrong="The review cannot warn of programs that may send e-mails to new or changed contacts.",
        consequence="Check the active programs by hand before you activate: see the checklist.",
    ),
)
