"""The JSON schema of the settings. `--about`, `meltano.yml`, the READMEs and `.env.example` are generated from it."""

from __future__ import annotations

from singer_sdk import typing as th

DATE = r"^\d{4}-\d{2}-\d{2}$"
TEXT = th.StringType(nullable=False)


def _percent(name: str, title: str, default: int, description: str) -> th.Property[int]:
    return th.Property(name, th.IntegerType(minimum=0, maximum=100), default=default, title=title, description=description)


CONFIG = th.PropertiesList(
    th.Property(
        "api_user",
        TEXT,
        required=True,
        title="API user",
        description="E-mail address of a dotdigital API user (apiuser-...@apiconnector.com).",
    ),
    th.Property(
        "api_password",
        TEXT,
        required=True,
        secret=True,
        title="API password",
        description="Password of the API user.",
    ),
    th.Property(
        "api_url",
        TEXT,
        default="https://r1-api.dotdigital.com",
        title="API URL",
        description="URL of the first call; the account's own region is taken from the response.",
    ),
    th.Property(
        "address_book",
        th.StringType(nullable=False, min_length=1, max_length=128),
        default="Nosto contacts",
        title="Address book",
        description="Name of the address book (list) that contains every uploaded contact. Created as private if it is missing.",
    ),
    th.Property(
        "address_book_id",
        th.IntegerType(minimum=1),
        title="Address book ID",
        description="ID of an existing address book, used instead of its name.",
    ),
    th.Property(
        "data_field",
        th.StringType(nullable=False, pattern=r"^[A-Za-z0-9_-]{1,20}$"),
        default="NOSTOSEGMENT",
        title="Data field",
        description="Contact data field (text) that holds the labels. Created as private if it is missing.",
    ),
    th.Property(
        "upload_emails",
        TEXT,
        default="all",
        allowed_values=["all", "with_segments", "none"],
        title="Upload e-mail addresses",
        description=(
            "Which contacts are created if dotdigital does not know them, and added to the address book. all: every contact of the "
            "source; with_segments: only contacts that are in a chosen segment; none: no contact, and no address book is used. "
            "Contacts that dotdigital already has get their labels in any case."
        ),
    ),
    th.Property(
        "activation_code",
        TEXT,
        title="Activation code",
        description=(
            "Code at the end of the review. It activates the sync for this account, address book, data field, these label settings and the "
            "streams that feed the data field. It does not cover the choice of segments."
        ),
    ),
    th.Property(
        "dry_run",
        th.BooleanType(),
        default=False,
        title="Dry run",
        description="Report what the run would do. Write nothing to dotdigital or the ledger, and emit no STATE.",
    ),
    th.Property(
        "email_property",
        TEXT,
        default="email",
        title="E-mail property",
        description="Property of the records that holds the e-mail address.",
    ),
    th.Property(
        "segments_property",
        TEXT,
        default="segments",
        title="Segments property",
        description=(
            "Property of the records that holds the segment names: an array, a text delimited by segment_delimiter, or an array that was "
            "written into a text."
        ),
    ),
    th.Property(
        "on_removed",
        TEXT,
        default="clear",
        allowed_values=["clear", "keep"],
        title="When a contact is removed",
        description=(
            "What to do with the labels of a contact that is no longer in the source. It stays in the address book. A change to clear asks "
            "for a full refresh, because it concerns contacts that left before."
        ),
    ),
    th.Property(
        "exclude_emails",
        th.ArrayType(TEXT),
        default=[],
        title="Addresses to exclude",
        description=(
            "Shell-style patterns of addresses that are neither uploaded nor labelled, such as *@example.com, even if they wait to be "
            "sent. Taking a pattern out asks for a full refresh, because the contacts were left out until then."
        ),
    ),
    th.Property(
        "segment_delimiter",
        th.StringType(nullable=False, min_length=1, max_length=10),
        default=";",
        title="Delimiter",
        description="Text between two labels in the data field.",
    ),
    th.Property(
        "enclose_segments",
        th.BooleanType(),
        default=False,
        title="Delimiter at both ends",
        description='Write the delimiter at both ends, too, so that a rule "contains ;VIP;" does not match "VIP Lapsed".',
    ),
    th.Property(
        "max_value_length",
        th.IntegerType(minimum=20, maximum=1000),
        default=1000,
        title="Maximum value length",
        description="Maximum number of characters in the data field. dotdigital's documents give both 255 and 1000.",
    ),
    th.Property(
        "overflow",
        TEXT,
        default="drop",
        allowed_values=["drop", "fail"],
        title="When labels do not fit",
        description="drop: leave out whole labels, lowest priority first; fail: stop the run.",
    ),
    th.Property(
        "segment_priority",
        th.ArrayType(TEXT),
        default=[],
        title="Segment priority",
        description="Segment names to keep first if not all labels fit. The others follow in alphabetical order.",
    ),
    th.Property(
        "segment_labels",
        th.ObjectType(additional_properties=TEXT),
        default={},
        title="Labels of segments",
        description="Nosto segment name -> label to write instead.",
    ),
    th.Property(
        "synced_at_field",
        th.StringType(nullable=False, pattern=r"^[A-Za-z0-9_-]{1,20}$"),
        title="Time field",
        description="Data field (date) that is set to the time of the run when a contact's labels are written. Optional.",
    ),
    _percent(
        "max_clear_percent",
        "Maximum cleared contacts (percent)",
        20,
        "Brake: stop if more than this percentage of the account's labelled contacts would lose all labels. Fewer than 100 labelled "
        "contacts are not checked. 100 disables the brake.",
    ),
    _percent(
        "max_change_percent",
        "Maximum changed contacts (percent)",
        50,
        "Brake: stop if the labels of more than this percentage of the account's labelled contacts would change. Fewer than 100 "
        "labelled contacts are not checked. 100 disables the brake.",
    ),
    th.Property(
        "brake_override_date",
        th.StringType(nullable=False, pattern=DATE),
        title="Brake override date",
        description="Date (UTC, YYYY-MM-DD) on which the brakes do not stop the run.",
    ),
    _percent(
        "max_rejected_percent",
        "Maximum rejected contacts (percent)",
        5,
        "Fail if at least 10 contacts are rejected for the first time, and more than this percentage of the contacts that the account "
        "should hold. Rejected contacts never stop the next run.",
    ),
    th.Property(
        "max_contacts_per_run",
        th.IntegerType(minimum=0),
        default=0,
        title="Maximum contacts per run",
        description="Ramp up a first load: the remaining contacts wait in the ledger for the next runs. 0 means no limit.",
    ),
    th.Property(
        "contacts_per_import",
        th.IntegerType(minimum=1, maximum=100_000),
        default=10_000,
        title="Maximum contacts per import",
        description="Maximum number of contacts in one import call. A call never exceeds 40 MB either.",
    ),
    th.Property(
        "max_active_imports",
        th.IntegerType(minimum=1, maximum=20),
        default=4,
        title="Maximum open imports",
        description="Maximum number of imports that are open at once. dotdigital allows an account 25, shared by all its integrations.",
    ),
    th.Property(
        "import_timeout",
        th.IntegerType(minimum=1),
        default=21_600,
        title="Import timeout (seconds)",
        description="Seconds to wait for an import. It is not lost after that: the next run continues to wait for it.",
    ),
    th.Property(
        "verify_timeout",
        th.IntegerType(minimum=0, maximum=3_600),
        default=120,
        title="Verification timeout (seconds)",
        description=(
            "After each delivery, up to three of the delivered contacts are looked up, because dotdigital has to hold what it "
            "confirmed. Seconds to wait until it does; 0: no look-up, and no spot check of contacts that need no update."
        ),
    ),
    th.Property(
        "poll_interval_ms",
        th.IntegerType(minimum=1, maximum=60_000),
        default=5_000,
        title="First poll of an import (milliseconds)",
        description="Milliseconds before an import is first polled. The interval grows by half each time, up to one minute.",
    ),
    th.Property(
        "request_timeout",
        th.IntegerType(minimum=1, maximum=3_600),
        default=130,
        title="Request timeout (seconds)",
        description="Seconds to wait for dotdigital to answer a call. dotdigital asks for at least 121.",
    ),
    th.Property(
        "ledger_url",
        th.StringType(nullable=False),
        secret=True,
        default="sqlite:///.target-dotdigital/ledger.db",
        title="Ledger URL",
        description="SQLAlchemy URL of the ledger: a SQLite file, or postgresql+psycopg:// for ephemeral workers.",
    ),
    th.Property(
        "report_dir",
        TEXT,
        default=".target-dotdigital/reports",
        title="Report folder",
        description="Folder for report.json, report.html, the files of rejected contacts, and the history of runs.",
    ),
    th.Property(
        "report_keep",
        th.IntegerType(minimum=1, maximum=10_000),
        default=100,
        title="Runs to keep",
        description="Number of runs whose reports are kept in the folder runs of report_dir. The page shows the last 30.",
    ),
    th.Property(
        "history_days",
        th.IntegerType(minimum=0, maximum=36_500),
        default=90,
        title="Days of history",
        description=(
            "Days for which the ledger keeps deliveries, with the labels that they replaced, and the report folder the reports of single "
            "runs. restore and explain reach back so far. What a later run needs is kept longer. 0 keeps everything."
        ),
    ),
    th.Property(
        "notify_urls",
        th.ArrayType(TEXT),
        default=[],
        secret=True,
        title="Notification URLs",
        description=(
            "Apprise URLs of chat rooms, mailboxes or pagers that get a message when a run needs a person, once per problem, and when "
            "it is over. Needs target-dotdigital[notify]."
        ),
    ),
    th.Property(
        "rehearsal_emails",
        th.ArrayType(TEXT),
        secret=True,  # never quoted, because it holds addresses
        default=[],
        title="Rehearsal addresses",
        description=(
            "4 to 10 e-mail addresses of your own for --rehearse, which tests on your account what the sync assumes about dotdigital. "
            "The sync itself does not use them."
        ),
    ),
    additional_properties=False,
)
