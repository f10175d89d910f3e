"""The settings: one schema that `--about`, `meltano.yml` and the README follow, and the settings as one typed value."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from singer_sdk import typing as th

from tap_nosto_segments.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

AUTH_FORMS = ("basic", "bearer", "header", "query", "none")
PERCENT = {"minimum": 0, "maximum": 100}
DATE = r"^\d{4}-\d{2}-\d{2}$"


CONFIG = th.PropertiesList(
    th.Property(
        "export_url",
        th.StringType(nullable=False),
        required=True,
        title="Export address",
        description=(
            "Address of the Segment Export as Nosto's admin shows it (https), or a local path or any fsspec address of a file "
            "in the same format. Plain http is refused, except on loopback."
        ),
    ),
    th.Property(
        "export_token",
        th.StringType(nullable=False),
        secret=True,
        title="Integration token",
        description="The integration token that Nosto shows when the Segment Export is enabled.",
    ),
    th.Property(
        "export_auth",
        th.StringType(nullable=False),
        default="basic",
        allowed_values=list(AUTH_FORMS),
        title="Form of authorisation",
        description=(
            "How the token is sent: basic (empty user, token as password), bearer, header or query (named by "
            "export_auth_name), none."
        ),
    ),
    th.Property(
        "export_auth_name",
        th.StringType(nullable=False),
        title="Name of the header or parameter",
        description="Name of the header or query parameter that carries the token. Needed with export_auth header or query.",
    ),
    th.Property(
        "export_link_pointer",
        th.StringType(nullable=False, pattern=r"^(/.*)?$"),
        title="Pointer to the link",
        description="If the answer is JSON that carries a link to the file: the JSON pointer to the link, such as /data/url.",
    ),
    th.Property(
        "segment_identifier",
        th.StringType(nullable=False),
        title="Segment identifier",
        description=(
            "The key that holds the segment names, as typed in Nosto when the export was enabled. Default: found by itself in "
            "the first records; an error if several keys could be it."
        ),
    ),
    th.Property(
        "segments",
        th.ArrayType(th.StringType(nullable=False)),
        default=["*"],
        title="Segments to synchronise",
        description="Shell-style patterns of the segment names to synchronise, case-sensitive.",
    ),
    th.Property(
        "exclude_segments",
        th.ArrayType(th.StringType(nullable=False)),
        default=[],
        title="Segments to leave out",
        description="Shell-style patterns of segment names to leave out of those chosen by segments.",
    ),
    th.Property(
        "api_token",
        th.StringType(nullable=False),
        secret=True,
        title="GraphQL token",
        description="Nosto API token of type API_APPS, for the catalogue of segments (ids, renames). Optional.",
    ),
    th.Property(
        "graphql_url",
        th.StringType(nullable=False),
        default="https://api.nosto.com/v1/graphql",
        title="GraphQL address",
        description="Address of Nosto's GraphQL API.",
    ),
    th.Property(
        "snapshot_uri",
        th.StringType(nullable=False),
        default=".tap-nosto-segments/snapshots",
        title="Snapshot folder",
        description=(
            "Where snapshots live: a local folder, or any fsspec address (s3://, gs://, abfs://) when workers come and go."
        ),
    ),
    th.Property(
        "max_shrink_percent",
        th.IntegerType(**PERCENT),
        default=20,
        title="Most that an export may shrink",
        description=(
            "Stop if the contacts of the export, or those of one chosen segment, are fewer than in the bookmark's snapshot by "
            "more than this. Counts below 100 are not judged. 100 switches the guard off."
        ),
    ),
    th.Property(
        "shrink_released_on",
        th.StringType(nullable=False, pattern=DATE),
        title="Day on which shrinking is meant",
        description="Date (UTC, YYYY-MM-DD) on which max_shrink_percent does not stop the run.",
    ),
    th.Property(
        "max_invalid_lines",
        th.IntegerType(minimum=0),
        default=0,
        title="Most malformed lines",
        description="Stop if more lines than this are malformed: no JSON object, no address, or no list of names.",
    ),
    th.Property(
        "allow_empty_export",
        th.BooleanType(),
        default=False,
        title="Accept an empty export",
        description="Accept an export without contacts: everybody has left. Nosto makes empty files for staging accounts.",
    ),
    th.Property(
        "max_export_age_hours",
        th.IntegerType(minimum=0),
        default=48,
        title="Oldest export",
        description="Stop if the export was made longer ago than this, where its age is known. 0 switches the guard off.",
    ),
    th.Property(
        "request_timeout",
        th.IntegerType(minimum=1),
        default=300,
        title="Time-out in seconds",
        description="How long Nosto may take to answer, or pause while it answers.",
    ),
    additional_properties=False,
)


# an explicit null means the default, too; the SDK fills in missing ones only
DEFAULTS = {name: schema["default"] for name, schema in CONFIG.to_dict()["properties"].items() if "default" in schema}


@dataclass(frozen=True, slots=True)
class Selection:
    """Which segments are synchronised: shell-style patterns, case-sensitive."""

    include: tuple[str, ...]
    exclude: tuple[str, ...]

    def chooses(self, name: str) -> bool:
        """Say whether a segment of this name is synchronised."""
        return any(fnmatchcase(name, pattern) for pattern in self.include) and not any(
            fnmatchcase(name, pattern) for pattern in self.exclude
        )

    def chosen(self, names: Iterable[str]) -> list[str]:
        """Give those of the names that are synchronised, sorted."""
        return sorted(name for name in names if self.chooses(name))


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings, checked. Percentages are whole numbers, ages hours, time-outs seconds."""

    export_url: str
    export_token: str | None
    export_auth: str
    export_auth_name: str | None
    export_link_pointer: str | None
    segment_identifier: str | None
    selection: Selection
    api_token: str | None
    graphql_url: str
    snapshot_uri: str
    max_shrink_percent: int
    shrink_released_on: datetime.date | None
    max_invalid_lines: int
    allow_empty_export: bool
    max_export_age_hours: int
    request_timeout: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Settings:
        """Read the settings from a configuration that follows `CONFIG`.

        Raises:
            SettingsError: where single values are right, but do not go together.
        """
        config = {**DEFAULTS, **{name: value for name, value in config.items() if value is not None}}
        auth = config["export_auth"]
        url = config["export_url"]
        if is_http(url):
            require_secure(url, "export_url")
            if auth != "none" and not config.get("export_token"):
                msg = (
                    "export_token is not set: without the integration token Nosto does not hand out the export. Set it, or set "
                    "export_auth to none."
                )
                raise SettingsError(msg)
            if auth in {"header", "query"} and not config.get("export_auth_name"):
                msg = f"export_auth is {auth}, but export_auth_name is not set: set the name that carries the token."
                raise SettingsError(msg)
        if config.get("api_token"):
            require_secure(config["graphql_url"], "graphql_url")
        return cls(
            export_url=url,
            export_token=config.get("export_token"),
            export_auth=auth,
            export_auth_name=config.get("export_auth_name"),
            export_link_pointer=config.get("export_link_pointer"),
            segment_identifier=config.get("segment_identifier"),
            selection=Selection(tuple(config["segments"]), tuple(config["exclude_segments"])),
            api_token=config.get("api_token"),
            graphql_url=config["graphql_url"],
            snapshot_uri=config["snapshot_uri"],
            max_shrink_percent=config["max_shrink_percent"],
            shrink_released_on=_date(config.get("shrink_released_on")),
            max_invalid_lines=config["max_invalid_lines"],
            allow_empty_export=config["allow_empty_export"],
            max_export_age_hours=config["max_export_age_hours"],
            request_timeout=config["request_timeout"],
        )


def is_http(url: str) -> bool:
    """Say whether an address is fetched over HTTP, rather than read from a file system."""
    return urlsplit(url).scheme.lower() in {"http", "https"}


def require_secure(url: str, name: str) -> None:
    """Refuse plain http, except on loopback: Nosto cancels a key that is used over it (contracts/nosto.md 3).

    Raises:
        SettingsError: naming the setting, or what else the address came from.
    """
    parts = urlsplit(url)
    if parts.scheme.lower() == "https" or (parts.scheme.lower() == "http" and _is_loopback(parts.hostname or "")):
        return
    msg = f"{name} is not an https address. Nosto cancels a token that is sent over plain http, so nothing was sent: use https."
    raise SettingsError(msg)


def _is_loopback(host: str) -> bool:
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
        msg = f"shrink_released_on is {value!r}, which is no date: write it as YYYY-MM-DD."
        raise SettingsError(msg) from None
