"""The settings: each is declared once, with its type, bounds, default, title and description.

The JSON schema follows from the declarations. `--about`, `meltano.yml`, the reference of settings and `.env.example` are generated from it.
"""

from __future__ import annotations

import datetime
import enum
import ipaddress
import re
import typing
from dataclasses import MISSING, Field, dataclass, field, fields
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from target_dotdigital.clock import find_zone
from target_dotdigital.errors import SettingsError
from target_dotdigital.models import Uploads
from target_dotdigital.text import is_blank, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# docs/assumptions.md, dotdigital 2 and 3
RESERVED_BOOKS = frozenset({"test", "all contacts"})
RESERVED_FIELDS = frozenset(
    {
        *("account", "campaign", "campaignid", "contact", "contact_api_id", "contactid", "email", "hcontactid", "hemail"),
        *("hemail256", "id", "messagecontent", "mobilenumberid", "notes", "unsubscribed", "uniquecontactid"),
        *("firstname", "lastname", "fullname", "gender", "postcode", "lastsubscribed"),
    },
)

FIELD_PATTERN = r"^[A-Za-z0-9_-]{1,20}$"
DATE_PATTERN = r"^\d{4}-\d{2}-\d{2}$"
Percent = Annotated[int, Meta(ge=0, le=100)]
FieldName = Annotated[str, Meta(pattern=FIELD_PATTERN)]
# SETTING marks the settings of this target; the SDK declares the others
SETTING = "setting"


def setting(title: str, description: str, default: Any = MISSING, *, secret: bool = False) -> Any:
    """Return the field of a setting.

    Args:
        title: a short name.
        description: what it does, for the operator.
        default: its default; a setting without one is required.
        secret: whether messages must not quote the value.
    """
    metadata = {SETTING: {"title": title, "description": description, **({"secret": True, "writeOnly": True} if secret else {})}}
    if isinstance(default, dict):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class LabelSettings:
    """How segment names become data field values.

    Args:
        field: the data field.
        delimiter: text between two names.
        enclosed: whether the delimiter is also written at both ends.
        length: maximum number of characters of a value.
        overflow: drop or fail.
        priority: names that are kept first.
        labels: pairs of segment name and label.
    """

    field: str
    delimiter: str = ";"
    enclosed: bool = False
    length: int = 1000
    overflow: str = "drop"
    priority: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()


class InputFilter(msgspec.Struct, frozen=True):
    """The settings that filter the input. Records that a run has left out of an incremental input are not sent again."""

    email_property: str
    segments_property: str
    on_removed: str
    exclude_emails: tuple[str, ...]
    stream_maps: dict[str, Any] | None

    def is_wider_than(self, before: InputFilter) -> bool:
        """Return whether an input may contain records that these settings use and that the settings of an earlier run left out."""
        return (
            self.on_removed != before.on_removed == "keep"
            or not set(before.exclude_emails) <= set(self.exclude_emails)
            or (self.email_property, self.segments_property, self.stream_maps)
            != (before.email_property, before.segments_property, before.stream_maps)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The validated settings."""

    api_user: str = setting("API user", "E-mail address of a dotdigital API user (apiuser-...@apiconnector.com).")
    api_password: str = setting("API password", "Password of the API user.", secret=True)
    api_url: str = setting(
        "API URL",
        "URL of the first call; the account's own region is taken from the response.",
        "https://r1-api.dotdigital.com",
    )
    address_book: Annotated[str, Meta(min_length=1, max_length=128)] = setting(
        "Address book",
        "Name of the address book (list) that contains every uploaded contact. Created as private if it is missing.",
        "Nosto contacts",
    )
    address_book_id: Annotated[int, Meta(ge=1)] | None = setting(
        "Address book ID", "ID of an existing address book, used instead of its name.", None
    )
    data_field: FieldName = setting(
        "Data field", "Contact data field (text) that holds the labels. Created as private if it is missing.", "NOSTOSEGMENT"
    )
    upload_emails: Uploads = setting(
        "Upload e-mail addresses",
        "Which contacts are created if dotdigital does not know them, and added to the address book. all: every contact of the "
        "source; with_segments: only contacts that are in a chosen segment; none: no contact, and no address book is used. "
        "Contacts that dotdigital already has get their labels in any case.",
        Uploads.ALL,
    )
    activation_code: str | None = setting(
        "Activation code",
        "Code at the end of the review. It activates the sync for this account, address book, data field, these label settings and the "
        "streams that feed the data field. It does not cover the choice of segments.",
        None,
    )
    dry_run: bool = setting(
        "Dry run",
        "Report what the run would do. Write nothing to dotdigital or the ledger, and emit no STATE.",
        default=False,
    )
    email_property: str = setting("E-mail property", "Property of the records that holds the e-mail address.", "email")
    segments_property: str = setting(
        "Segments property",
        "Property of the records that holds the segment names: an array, a text delimited by segment_delimiter, or an array that was "
        "written into a text.",
        "segments",
    )
    on_removed: Literal["clear", "keep"] = setting(
        "When a contact is removed",
        "What to do with the labels of a contact that is no longer in the source. It stays in the address book. A change to clear asks "
        "for a full refresh, because it concerns contacts that left before.",
        "clear",
    )
    exclude_emails: tuple[str, ...] = setting(
        "Addresses to exclude",
        "Shell-style patterns of addresses that are neither uploaded nor labelled, such as *@example.com, even if they wait to be "
        "sent. Taking a pattern out asks for a full refresh, because the contacts were left out until then.",
        (),
    )
    segment_delimiter: Annotated[str, Meta(min_length=1, max_length=10)] = setting(
        "Delimiter", "Text between two labels in the data field.", ";"
    )
    enclose_segments: bool = setting(
        "Delimiter at both ends",
        'Write the delimiter at both ends, too, so that a rule "contains ;VIP;" does not match "VIP Lapsed".',
        default=False,
    )
    max_value_length: Annotated[int, Meta(ge=20, le=1000)] = setting(
        "Maximum value length",
        "Maximum number of characters in the data field. dotdigital's documents give both 255 and 1000.",
        1000,
    )
    overflow: Literal["drop", "fail"] = setting(
        "When labels do not fit",
        "drop: leave out whole labels, lowest priority first; fail: stop the run.",
        "drop",
    )
    segment_priority: tuple[str, ...] = setting(
        "Segment priority",
        "Segment names to keep first if not all labels fit. The others follow in alphabetical order.",
        (),
    )
    segment_labels: dict[str, str] = setting("Labels of segments", "Nosto segment name -> label to write instead.", {})
    synced_at_field: FieldName | None = setting(
        "Time field",
        "Data field (date) that is set to the time of the run when a contact's labels are written. Optional.",
        None,
    )
    max_clear_percent: Percent = setting(
        "Maximum cleared contacts (percent)",
        "Brake: stop if more than this percentage of the account's labelled contacts would lose all labels. Fewer than 100 labelled "
        "contacts are not checked. 100 disables the brake.",
        20,
    )
    max_change_percent: Percent = setting(
        "Maximum changed contacts (percent)",
        "Brake: stop if the labels of more than this percentage of the account's labelled contacts would change. Fewer than 100 "
        "labelled contacts are not checked. 100 disables the brake.",
        50,
    )
    brake_override_date: Annotated[datetime.date, Meta(extra_json_schema={"pattern": DATE_PATTERN})] | None = setting(
        "Brake override date", "Date (UTC, YYYY-MM-DD) on which the brakes do not stop the run.", None
    )
    max_rejected_percent: Percent = setting(
        "Maximum rejected contacts (percent)",
        "Fail if at least 10 contacts are rejected for the first time, and more than this percentage of the contacts that the account "
        "should hold. Rejected contacts never stop the next run.",
        5,
    )
    max_contacts_per_run: Annotated[int, Meta(ge=0)] = setting(
        "Maximum contacts per run",
        "Ramp up a first load: the remaining contacts wait in the ledger for the next runs. 0 means no limit.",
        0,
    )
    contacts_per_import: Annotated[int, Meta(ge=1, le=100_000)] = setting(
        "Maximum contacts per import",
        "Maximum number of contacts in one import call. A call never exceeds 40 MB either.",
        10_000,
    )
    max_active_imports: Annotated[int, Meta(ge=1, le=20)] = setting(
        "Maximum open imports",
        "Maximum number of imports that are open at once. dotdigital allows an account 25, shared by all its integrations.",
        4,
    )
    import_timeout: Annotated[int, Meta(ge=1)] = setting(
        "Import timeout (seconds)",
        "Seconds to wait for an import. It is not lost after that: the next run continues to wait for it.",
        21_600,
    )
    verify_timeout: Annotated[int, Meta(ge=0, le=3_600)] = setting(
        "Verification timeout (seconds)",
        "After each delivery, up to three of the delivered contacts are looked up, because dotdigital has to hold what it "
        "confirmed. Seconds to wait until it does; 0: no look-up, and no spot check of contacts that need no update.",
        120,
    )
    poll_interval_ms: Annotated[int, Meta(ge=1, le=60_000)] = setting(
        "First poll of an import (milliseconds)",
        "Milliseconds before an import is first polled. The interval grows by half each time, up to one minute.",
        5_000,
    )
    request_timeout: Annotated[int, Meta(ge=1, le=3_600)] = setting(
        "Request timeout (seconds)",
        "Seconds to wait for dotdigital to answer a call. dotdigital asks for at least 121.",
        130,
    )
    ledger_url: str = setting(
        "Ledger URL",
        "SQLAlchemy URL of the ledger: a SQLite file, or postgresql+psycopg:// for ephemeral workers.",
        "sqlite:///.target-dotdigital/ledger.db",
        secret=True,
    )
    report_dir: str = setting(
        "Report folder",
        "Folder for report.json, report.html, the files of rejected contacts, and the history of runs.",
        ".target-dotdigital/reports",
    )
    report_keep: Annotated[int, Meta(ge=1, le=10_000)] = setting(
        "Runs to keep",
        "Number of runs whose reports are kept in the folder runs of report_dir, besides the last one that was delivered. The page shows "
        "the last 30.",
        100,
    )
    history_days: Annotated[int, Meta(ge=0, le=36_500)] = setting(
        "Days of history",
        "Days for which the ledger keeps deliveries, with the labels that they replaced, and the report folder the reports of single "
        "runs. restore and explain reach back so far. What a later run needs is kept longer. 0 keeps everything.",
        90,
    )
    report_timezone: str = setting(
        "Time zone of the page",
        "Time zone in which the page, the review and notifications show times: an IANA name, such as Europe/Berlin. report.json and "
        "brake_override_date stay in UTC.",
        "UTC",
    )
    notify_urls: tuple[str, ...] = setting(
        "Notification URLs",
        "Apprise URLs of chat rooms, mailboxes or pagers that get a message when a run needs a person, once a day while the problem "
        "lasts, and when it is over. Needs target-dotdigital[notify].",
        (),
        secret=True,
    )
    notify_when: Literal["problems", "always"] = setting(
        "When to notify",
        "problems: when a run needs a person; always: also after each run without a problem, with the sizes of the segments, how many "
        "contacts joined and left, and from when it is safe to mail.",
        "problems",
    )
    # secret, so that messages do not quote addresses
    rehearsal_emails: tuple[str, ...] = setting(
        "Rehearsal addresses",
        "4 to 10 e-mail addresses of your own for the command rehearse, which tests on your account what the sync assumes about "
        "dotdigital. The sync itself does not use them.",
        (),
        secret=True,
    )
    # declared by the SDK
    stream_maps: dict[str, Any] | None = None

    @property
    def labels(self) -> LabelSettings:
        """How segment names become data field values."""
        return LabelSettings(
            self.data_field,
            self.segment_delimiter,
            self.enclose_segments,
            self.max_value_length,
            self.overflow,
            self.segment_priority,
            tuple(sorted(self.segment_labels.items())),
        )

    @property
    def has_address_book(self) -> bool:
        """Whether contacts are created and added to an address book."""
        return self.upload_emails is not Uploads.NONE

    @property
    def address_book_shown(self) -> str | None:
        """The address book as shown to people; None if none is used."""
        if not self.has_address_book:
            return None
        return f"id {self.address_book_id}" if self.address_book_id is not None else self.address_book.strip().lower()

    @property
    def poll_interval(self) -> float:
        """Seconds before an import is polled for the first time."""
        return self.poll_interval_ms / 1000

    @property
    def zone(self) -> datetime.tzinfo:
        """The time zone in which people read times."""
        return find_zone(self.report_timezone) or datetime.UTC

    @property
    def is_excluded(self) -> Callable[[str], bool] | None:
        """Predicate for normalised addresses that match exclude_emails; None if no pattern is set."""
        patterns = self.exclude_emails
        if not patterns:
            return None
        # a pattern that is the address itself, because brackets in it would be read as a character class
        return lambda address: address in patterns or any(fnmatchcase(address, pattern) for pattern in patterns)

    @property
    def input_filter(self) -> InputFilter:
        """The settings that filter the input."""
        return InputFilter(self.email_property, self.segments_property, self.on_removed, self.exclude_emails, self.stream_maps)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Settings:
        """Return the settings of a configuration that follows `SCHEMA`.

        Raises:
            SettingsError: a setting is invalid, or two settings contradict each other.
        """
        # null stands for the default
        values = {name: value for name, value in config.items() if value is not None}
        values["exclude_emails"] = [pattern.strip().lower() for pattern in values.get("exclude_emails", ())]
        try:
            # not strict: JSON Schema accepts 5.0 as an integer
            settings = msgspec.convert(values, cls, strict=False)
        except msgspec.ValidationError:
            # JSON Schema has checked everything except whether the date exists
            msg = (
                f"brake_override_date is {values.get('brake_override_date')!r}, which is not a date, so nothing was done. Write it as "
                "YYYY-MM-DD."
            )
            raise SettingsError(msg) from None
        _require_secure(settings.api_url)
        _require_free_name(settings)
        _require_field_names(settings.labels, settings.synced_at_field)
        _require_labels(settings.labels)
        _require_zone(settings.report_timezone)
        _require_two_properties(settings)
        return settings


def _json_schema() -> dict[str, Any]:
    """Return the JSON schema of the settings, in the SDK's form: an optional setting may be null."""
    hints = typing.get_type_hints(Settings, include_extras=True)
    declared = [declaration for declaration in fields(Settings) if SETTING in declaration.metadata]
    return {
        "type": "object",
        "properties": {declaration.name: _property(declaration, hints[declaration.name]) for declaration in declared},
        "required": [declaration.name for declaration in declared if _default(declaration) is MISSING],
        "additionalProperties": False,
        "$schema": "https://json-schema.org/draft/2020-12/schema",
    }


def _property(declaration: Field[Any], hint: Any) -> dict[str, Any]:
    if type(None) in typing.get_args(hint):
        hint = next(option for option in typing.get_args(hint) if option is not type(None))
    choices = [*hint] if isinstance(hint, enum.EnumType) else typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
    facts: dict[str, Any] = (
        {"type": "string", "enum": [str(choice) for choice in choices]} if choices else msgspec.json.schema(hint)
    )
    default = _default(declaration)
    facts |= {"type": [facts["type"]] if default is MISSING else [facts["type"], "null"], **declaration.metadata[SETTING]}
    if default is not MISSING and default is not None:
        facts["default"] = msgspec.json.decode(msgspec.json.encode(default))
    return facts


def _default(declaration: Field[Any]) -> Any:
    return declaration.default if declaration.default_factory is MISSING else declaration.default_factory()


SCHEMA = _json_schema()


def _require_free_name(settings: Settings) -> None:
    """Reject an address book name that dotdigital reserves (docs/assumptions.md, dotdigital 2)."""
    if settings.address_book_id is None and settings.address_book.strip().lower() in RESERVED_BOOKS:
        msg = (
            f"address_book is {settings.address_book!r}, a name that dotdigital reserves, so nothing was done. Choose another name."
        )
        raise SettingsError(msg)


def _require_field_names(labels: LabelSettings, synced_at: str | None) -> None:
    names = [labels.field, *([synced_at] if synced_at else [])]
    for name in names:
        if not re.fullmatch(FIELD_PATTERN, name):
            msg = (
                f"The data field name {name!r} has more than 20 characters, or characters other than letters, digits, - and _, which "
                "dotdigital rejects, so nothing was done. Change it."
            )
            raise SettingsError(msg)
        if name.lower() in RESERVED_FIELDS:
            msg = (
                f"The data field name {name!r} is one of dotdigital's own: writing to it would destroy data, so nothing was done. Choose "
                "another name."
            )
            raise SettingsError(msg)
    if synced_at is not None and synced_at.upper() == labels.field.upper():
        msg = "synced_at_field and data_field are the same field: one would overwrite the other, so nothing was done. Rename one of them."
        raise SettingsError(msg)


def _require_labels(labels: LabelSettings) -> None:
    """Reject a blank label: dotdigital stores an empty value as no value, so the label would never be confirmed."""
    blank = [name for name, label in labels.labels if is_blank(label)]
    if blank:
        msg = (
            f"segment_labels gives the segment {shown(blank[0])!r} a blank label, so nothing was done. Give it a visible one; to leave a "
            "segment out, use the tap's segments or exclude_segments."
        )
        raise SettingsError(msg)


def _require_two_properties(settings: Settings) -> None:
    if settings.email_property == settings.segments_property:
        msg = (
            f"email_property and segments_property are both {settings.email_property!r}, so nothing was done. Let each name a property of "
            "its own."
        )
        raise SettingsError(msg)


def _require_zone(name: str) -> None:
    if find_zone(name) is None:
        msg = (
            f"report_timezone is {shown(name)!r}, which is not the name of a time zone on this system, so nothing was done. Write an IANA "
            "name such as Europe/Berlin; capitals count. If this system has no time zones, install the Python package tzdata."
        )
        raise SettingsError(msg)


def _require_secure(url: str) -> None:
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if (parts.scheme == "https" and parts.hostname) or (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        return
    msg = "api_url is not an https URL: the password would be sent unencrypted, so nothing was sent. Use https."
    raise SettingsError(msg)


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
