"""The settings as one typed value, checked against each other."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from tap_nosto_segments.addresses import is_http, require_secure
from tap_nosto_segments.config import CONFIG
from tap_nosto_segments.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
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
        """Return those of the names that are synchronised, sorted."""
        return sorted(name for name in names if self.chooses(name))

    def unmatched(self, names: Collection[str]) -> list[str]:
        """Return the patterns of `include` that match none of the names."""
        return [pattern for pattern in self.include if not any(fnmatchcase(name, pattern) for name in names)]


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
            _require_sendable(config)
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


def _require_sendable(config: Mapping[str, Any]) -> None:
    """Refuse a token, or a name of a header, that HTTP cannot carry."""
    token = config.get("export_token") or ""
    if not (token.isascii() and token.isprintable()):
        msg = (
            "export_token holds a line break or another character that no token has, so nothing was sent. Copy it again from Nosto's "
            "admin."
        )
        raise SettingsError(msg)
    if config["export_auth"] == "header" and not HEADER_NAME.fullmatch(config["export_auth_name"]):
        msg = (
            f"export_auth_name is {config['export_auth_name']!r}, which cannot be the name of a header, so nothing was sent. Letters, "
            "digits and hyphens make up such a name."
        )
        raise SettingsError(msg)


def _date(value: str | None) -> datetime.date | None:
    if value is None:
        return None
    try:
        return datetime.date.fromisoformat(value)
    except ValueError:
        msg = f"shrink_released_on is {value!r}, which is no date: write it as YYYY-MM-DD."
        raise SettingsError(msg) from None
