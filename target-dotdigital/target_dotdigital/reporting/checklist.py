"""Manual checks: questions that the API cannot answer, and where to look in dotdigital."""

from __future__ import annotations

CHECKLIST = (
    (
        "Is double opt-in enforced for all sign-ups, including bulk uploads? Then every new contact gets a confirmation e-mail.",
        "Settings > General > Account settings > Email regulatory settings",
    ),
    (
        "Does an active program start on the data field, the address book, or a contact's creation date? A first load can enrol many.",
        "Automation > Programs: the start node of each active program, and the segments that it uses",
    ),
    (
        "Does the address book have join actions (a campaign or a program that starts when a contact joins)?",
        "Contacts > Lists > the address book > settings",
    ),
    (
        "Which rate limits does the account have, and which other integrations share them?",
        "Settings > Access > API rate limits, and API users",
    ),
    ("How many contacts does the contract allow, and how many are there now?", "Your contract, and Settings > Billing"),
    (
        "Does another integration write to the segment data field, for example Nosto's own integration?",
        "Integrations, and Contacts > Data fields",
    ),
    (
        "Do preference centres, forms or personalisation use the data field in a way that contacts can see?",
        "Campaigns and forms that use the data field",
    ),
)
# the first questions decide whether a first load sends e-mails, so every review asks them
BEFORE_ACTIVATION = CHECKLIST[:3]
