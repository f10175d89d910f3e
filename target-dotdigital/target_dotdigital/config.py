"""The schema of the settings: `--about`, `meltano.yml`, the README and `.env.example` follow it."""

from __future__ import annotations

from singer_sdk import typing as th

DATE = r"^\d{4}-\d{2}-\d{2}$"
TEXT = th.StringType(nullable=False)


def _percent(title: str, default: int, description: str, name: str) -> th.Property[int]:
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
        title="API address",
        description="First address to ask; the account's own region is taken from its answer.",
    ),
    th.Property(
        "address_book",
        th.StringType(nullable=False, min_length=1, max_length=128),
        default="Nosto contacts",
        title="Address book",
        description="Name of the address book (list) that holds every uploaded contact. Created, private, if it is missing.",
    ),
    th.Property(
        "address_book_id",
        th.IntegerType(minimum=1),
        title="Address book id",
        description="Id of an existing address book, in place of its name.",
    ),
    th.Property(
        "data_field",
        th.StringType(nullable=False, pattern=r"^[A-Za-z0-9_-]{1,20}$"),
        default="NOSTOSEGMENT",
        title="Data field",
        description="Contact data field (text) that holds the labels. Created, private, if it is missing.",
    ),
    th.Property(
        "upload_emails",
        th.BooleanType(),
        default=True,
        title="Upload e-mail addresses",
        description=(
            "Create contacts that dotdigital does not know, and put every contact into the address book. If false, only contacts "
            "that are there already get their labels, and no address book is used."
        ),
    ),
    th.Property(
        "activation_code",
        TEXT,
        title="Activation code",
        description=(
            "The code that the review ends with: switches the daily sync on for this account, address book, data field and label settings. "
            "The choice of segments is not part of it."
        ),
    ),
    th.Property(
        "dry_run",
        th.BooleanType(),
        default=False,
        title="Dry run",
        description="Do everything but write: not to dotdigital, not to the ledger, and no STATE.",
    ),
    th.Property(
        "email_property",
        TEXT,
        default="email",
        title="Address property",
        description="Property of the record that holds the e-mail address.",
    ),
    th.Property(
        "segments_property",
        TEXT,
        default="segments",
        title="Segments property",
        description="Property of the record that holds the names: an array, or a text with segment_delimiter between them.",
    ),
    th.Property(
        "on_removed",
        TEXT,
        default="clear",
        allowed_values=["clear", "keep"],
        title="When a contact vanishes",
        description="What becomes of the labels of a contact that the source no longer holds. It stays in the address book.",
    ),
    th.Property(
        "exclude_emails",
        th.ArrayType(TEXT),
        default=[],
        title="Addresses to leave alone",
        description="Shell-style patterns of addresses that are neither uploaded nor labelled, such as *@example.com.",
    ),
    th.Property(
        "segment_delimiter",
        th.StringType(nullable=False, min_length=1, max_length=10),
        default=";",
        title="Delimiter",
        description="Text between two names in the data field.",
    ),
    th.Property(
        "enclose_segments",
        th.BooleanType(),
        default=False,
        title="Delimiter at both ends",
        description='Puts the delimiter at both ends too, so that a rule "contains ;VIP;" cannot hit "VIP Lapsed".',
    ),
    th.Property(
        "max_value_length",
        th.IntegerType(minimum=20, maximum=1000),
        default=1000,
        title="Longest value",
        description="Most characters of the data field. dotdigital's documents disagree between 255 and 1000.",
    ),
    th.Property(
        "overflow",
        TEXT,
        default="drop",
        allowed_values=["drop", "spill", "fail"],
        title="When the names do not fit",
        description="drop: leave whole names out, last in priority first; spill: go on in further data fields; fail: stop.",
    ),
    th.Property(
        "segment_priority",
        th.ArrayType(TEXT),
        default=[],
        title="Priority",
        description="Names that are kept first where not all fit. The others follow in alphabetical order.",
    ),
    th.Property(
        "segment_labels",
        th.ObjectType(additional_properties=TEXT),
        default={},
        title="Labels",
        description="Nosto name -> label to write in its place.",
    ),
    th.Property(
        "synced_at_field",
        th.StringType(nullable=False, pattern=r"^[A-Za-z0-9_-]{1,20}$"),
        title="Field for the time",
        description="Data field (date) that gets the time of the run whenever a contact's labels are written. Optional.",
    ),
    _percent(
        "Most contacts to clear",
        20,
        "Brake: stop if more than this share of the account's labelled contacts would lose all labels. Fewer than 100 labelled "
        "contacts are not judged. 100 switches it off.",
        "max_clear_percent",
    ),
    _percent(
        "Most contacts to change",
        50,
        "Brake: stop if the labels of more than this share of the account's labelled contacts would change. Fewer than 100 labelled "
        "contacts are not judged. 100 switches it off.",
        "max_change_percent",
    ),
    th.Property(
        "brake_override_date",
        th.StringType(nullable=False, pattern=DATE),
        title="Day without brakes",
        description="Date (UTC, YYYY-MM-DD) on which the brakes do not stop the run.",
    ),
    _percent(
        "Most rejected contacts",
        5,
        "Fail if the contacts that are rejected for the first time are more than this share of those that the account should hold, once at "
        "least 10 are. Rejected contacts never stop the next run.",
        "max_rejected_percent",
    ),
    th.Property(
        "max_contacts_per_run",
        th.IntegerType(minimum=0),
        default=0,
        title="Most contacts in one run",
        description="Ramp up a first load: the rest waits in the ledger and follows in the next runs. 0 is without limit.",
    ),
    th.Property(
        "contacts_per_import",
        th.IntegerType(minimum=1, maximum=100_000),
        default=10_000,
        title="Contacts in one import",
        description="Most contacts in one import call. A call never exceeds 40 MB either.",
    ),
    th.Property(
        "max_active_imports",
        th.IntegerType(minimum=1, maximum=20),
        default=4,
        title="Open imports",
        description="Most imports that are open at once; dotdigital allows an account 25, of all its integrations together.",
    ),
    th.Property(
        "import_timeout",
        th.IntegerType(minimum=1),
        default=21_600,
        title="Time for an import",
        description="Seconds to wait for an import. It is not lost then: the next run goes on waiting for it.",
    ),
    th.Property(
        "poll_interval_ms",
        th.IntegerType(minimum=1, maximum=60_000),
        default=5_000,
        title="First wait for an import",
        description="Milliseconds before an import is first asked after; grows by half each time, up to a minute.",
    ),
    th.Property(
        "request_timeout",
        th.IntegerType(minimum=1),
        default=130,
        title="Time-out in seconds",
        description="How long one call may take. dotdigital asks for at least 121.",
    ),
    th.Property(
        "ledger_url",
        th.StringType(nullable=False),
        secret=True,
        default="sqlite:///.target-dotdigital/ledger.db",
        title="Ledger",
        description="SQLAlchemy address of the ledger: a SQLite file, or postgresql+psycopg:// where workers come and go.",
    ),
    th.Property(
        "report_dir",
        TEXT,
        default=".target-dotdigital/reports",
        title="Report folder",
        description="Where report.json, report.html and the file of rejected contacts are written.",
    ),
    th.Property(
        "load_method",
        TEXT,
        default="upsert",
        allowed_values=["upsert"],
        title="Load method",
        description="Contacts are created or updated, never duplicated or deleted.",
    ),
    additional_properties=False,
)
