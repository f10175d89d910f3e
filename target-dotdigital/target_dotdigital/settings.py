"""The settings as one typed value, with checks that span several settings."""

from __future__ import annotations

import datetime  # noqa: TC003 - msgspec reads the annotations
import ipaddress
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from target_dotdigital.config import CONFIG
from target_dotdigital.errors import SettingsError
from target_dotdigital.records import Uploads
from target_dotdigital.texts import is_blank, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# contracts/dotdigital.md 2 and 3
RESERVED_BOOKS = frozenset({"test", "all contacts"})
RESERVED_FIELDS = frozenset(
    {
        *("account", "campaign", "campaignid", "contact", "contact_api_id", "contactid", "email", "hcontactid", "hemail"),
        *("hemail256", "id", "messagecontent", "mobilenumberid", "notes", "unsubscribed", "uniquecontactid"),
        *("firstname", "lastname", "fullname", "gender", "postcode", "lastsubscribed"),
    },
)
FIELD_NAME = re.compile(r"[A-Za-z0-9_-]{1,20}")

# attribute of LabelSettings -> setting
LABEL_SETTINGS = {
    "field": "data_field",
    "delimiter": "segment_delimiter",
    "enclosed": "enclose_segments",
    "length": "max_value_length",
    "overflow": "overflow",
    "priority": "segment_priority",
    "labels": "segment_labels",
}
# the SDK applies defaults to missing settings, but not to those that are null
DEFAULTS = {name: schema["default"] for name, schema in CONFIG.to_dict()["properties"].items() if "default" in schema}


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


class InputTerms(msgspec.Struct, frozen=True):
    """The settings that decide what of the input is used. What a run has left out of an incremental input does not come again."""

    email_property: str
    segments_property: str
    on_removed: str
    exclude_emails: tuple[str, ...]
    stream_maps: dict[str, Any] | None

    def uses_more_than(self, before: InputTerms) -> bool:
        """Return whether an input may hold what is used under these settings, and was left out under those of an earlier run."""
        return (
            self.on_removed != before.on_removed == "keep"
            or not set(before.exclude_emails) <= set(self.exclude_emails)
            or (self.email_property, self.segments_property, self.stream_maps)
            != (before.email_property, before.segments_property, before.stream_maps)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The validated settings. Percentages are whole numbers, timeouts are in seconds."""

    api_user: str
    api_password: str
    api_url: str
    address_book: str
    address_book_id: int | None = None
    data_field: str
    upload_emails: Uploads
    activation_code: str | None = None
    dry_run: bool
    email_property: str
    segments_property: str
    on_removed: str
    exclude_emails: tuple[str, ...]
    stream_maps: dict[str, Any] | None = None
    labels: LabelSettings
    synced_at_field: str | None = None
    max_clear_percent: int
    max_change_percent: int
    brake_override_date: datetime.date | None = None
    max_rejected_percent: int
    max_contacts_per_run: int
    contacts_per_import: int
    max_active_imports: int
    import_timeout: int
    verify_timeout: int
    poll_interval_ms: int
    request_timeout: int
    ledger_url: str
    report_dir: str
    report_keep: int
    history_days: int
    notify_urls: tuple[str, ...]
    rehearsal_emails: tuple[str, ...]

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
    def is_excluded(self) -> Callable[[str], bool] | None:
        """Predicate for normalised addresses that match exclude_emails; None if no pattern is set."""
        patterns = self.exclude_emails
        if not patterns:
            return None
        # a pattern that is the address itself, because brackets in it would be read as a character class
        return lambda address: address in patterns or any(fnmatchcase(address, pattern) for pattern in patterns)

    @property
    def input_terms(self) -> InputTerms:
        """The settings that decide what of the input is used."""
        return InputTerms(self.email_property, self.segments_property, self.on_removed, self.exclude_emails, self.stream_maps)

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Settings:
        """Return the settings of a configuration that follows `CONFIG`.

        Raises:
            SettingsError: a setting is invalid, or two settings contradict each other.
        """
        values = {**DEFAULTS, **{name: value for name, value in config.items() if value is not None}}
        values["exclude_emails"] = [pattern.strip().lower() for pattern in values["exclude_emails"]]
        values["segment_labels"] = sorted(values["segment_labels"].items())
        values["labels"] = {attribute: values[name] for attribute, name in LABEL_SETTINGS.items()}
        try:
            # not strict: JSON Schema accepts 5.0 as an integer, too
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
        return settings


def _require_free_name(settings: Settings) -> None:
    """Reject an address book name that dotdigital reserves (contracts/dotdigital.md 2)."""
    if settings.address_book_id is None and settings.address_book.strip().lower() in RESERVED_BOOKS:
        msg = (
            f"address_book is {settings.address_book!r}, a name that dotdigital reserves, so nothing was done. Choose another name."
        )
        raise SettingsError(msg)


def _require_field_names(labels: LabelSettings, synced_at: str | None) -> None:
    names = [labels.field, *([synced_at] if synced_at else [])]
    for name in names:
        if not FIELD_NAME.fullmatch(name):
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
        msg = "synced_at_field and data_field name the same field: one would overwrite the other, so nothing was done. Rename one of them."
        raise SettingsError(msg)


def _require_labels(labels: LabelSettings) -> None:
    """Reject a blank label: dotdigital stores an empty value as none, so what was sent would never be confirmed."""
    blank = [name for name, label in labels.labels if is_blank(label)]
    if blank:
        msg = (
            f"segment_labels gives the segment {shown(blank[0])!r} a blank label, so nothing was done. Give it a visible one; to leave a "
            "segment out, use the tap's segments or exclude_segments."
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
