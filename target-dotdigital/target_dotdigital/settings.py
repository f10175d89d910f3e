"""The settings as one typed object, validated against each other."""

from __future__ import annotations

import datetime
import ipaddress
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from target_dotdigital.config import CONFIG
from target_dotdigital.errors import SettingsError

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
MAX_FIELDS = 9
FIELD_NAME = re.compile(r"[A-Za-z0-9_-]{1,20}")

# an explicit null means the default, too; the SDK only fills in missing settings
DEFAULTS = {name: schema["default"] for name, schema in CONFIG.to_dict()["properties"].items() if "default" in schema}


@dataclass(frozen=True, slots=True)
class LabelSettings:
    """How segment names become data field values.

    Args:
        field: the data field.
        delimiter: text between two names.
        enclosed: whether the delimiter is also written at both ends.
        length: maximum number of characters of a value.
        overflow: drop, spill or fail.
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

    @property
    def fields(self) -> tuple[str, ...]:
        """All data fields that may be written: the field and, with `spill`, the numbered fields after it."""
        if self.overflow != "spill":
            return (self.field,)
        return (self.field, *(f"{self.field}_{number}" for number in range(2, MAX_FIELDS + 1)))


@dataclass(frozen=True, slots=True)
class Settings:
    """The validated settings. Percentages are whole numbers, timeouts are seconds."""

    api_user: str
    api_password: str
    api_url: str
    address_book: str
    address_book_id: int | None
    data_field: str
    upload_emails: bool
    activation_code: str | None
    dry_run: bool
    email_property: str
    segments_property: str
    on_removed: str
    exclude_emails: tuple[str, ...]
    labels: LabelSettings
    synced_at_field: str | None
    max_clear_percent: int
    max_change_percent: int
    brake_override_date: datetime.date | None
    max_rejected_percent: int
    max_contacts_per_run: int
    contacts_per_import: int
    max_active_imports: int
    import_timeout: int
    poll_interval: float
    request_timeout: int
    ledger_url: str
    report_dir: str

    @property
    def is_excluded(self) -> Callable[[str], bool] | None:
        """Predicate for normalised addresses that match exclude_emails; None if no pattern is set."""
        patterns = self.exclude_emails
        if not patterns:
            return None
        return lambda address: any(fnmatchcase(address, pattern) for pattern in patterns)

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Settings:
        """Create the settings from a configuration that is valid for `CONFIG`.

        Raises:
            SettingsError: a value is not allowed, or contradicts another.
        """
        config = {**DEFAULTS, **{name: value for name, value in config.items() if value is not None}}
        _require_secure(config["api_url"])
        if config.get("address_book_id") is None and config["address_book"].strip().lower() in RESERVED_BOOKS:
            msg = f"address_book is {config['address_book']!r}, a name that dotdigital keeps for itself: choose another name."
            raise SettingsError(msg)
        labels = LabelSettings(
            field=config["data_field"],
            delimiter=config["segment_delimiter"],
            enclosed=config["enclose_segments"],
            length=config["max_value_length"],
            overflow=config["overflow"],
            priority=tuple(config["segment_priority"]),
            labels=tuple(sorted(config["segment_labels"].items())),
        )
        _require_field_names(labels, config.get("synced_at_field"))
        return cls(
            labels=labels,
            poll_interval=config["poll_interval_ms"] / 1000,
            exclude_emails=tuple(pattern.strip().lower() for pattern in config["exclude_emails"]),
            brake_override_date=_date(config.get("brake_override_date")),
            **{  # type: ignore[arg-type]  # the schema has checked the types
                name: config.get(name)
                for name in cls.__dataclass_fields__
                if name not in {"labels", "poll_interval", "exclude_emails", "brake_override_date"}
            },
        )


def _require_field_names(labels: LabelSettings, synced_at: str | None) -> None:
    names = [*labels.fields, *([synced_at] if synced_at else [])]
    for name in names:
        if not FIELD_NAME.fullmatch(name):
            msg = (
                f"The data field name {name!r} has more than 20 characters, or others than letters, digits, - and _: dotdigital "
                "refuses it. Shorten data_field (with overflow: spill two characters are added to it)."
            )
            raise SettingsError(msg)
        if name.lower() in RESERVED_FIELDS:
            msg = (
                f"The data field name {name!r} belongs to dotdigital itself: writing to it would destroy data. Choose another name."
            )
            raise SettingsError(msg)
    if synced_at is not None and synced_at.upper() in {name.upper() for name in labels.fields}:
        msg = "synced_at_field and data_field are the same field: one would overwrite the other. Choose another name for one."
        raise SettingsError(msg)


def _require_secure(url: str) -> None:
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if (parts.scheme == "https" and parts.hostname) or (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        return
    msg = "api_url is not an https address: the password would go over the wire in the clear, so nothing was sent. Use https."
    raise SettingsError(msg)


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _date(value: str | None) -> datetime.date | None:
    if value is None:
        return None
    try:
        return datetime.date.fromisoformat(value)
    except ValueError:
        msg = f"brake_override_date is {value!r}, which is no date: write it as YYYY-MM-DD."
        raise SettingsError(msg) from None
