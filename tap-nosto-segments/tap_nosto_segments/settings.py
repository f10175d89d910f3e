"""The settings as one typed value, with checks that span several settings."""

from __future__ import annotations

import datetime  # noqa: TC003 - msgspec reads the annotations
import re
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import msgspec

from tap_nosto_segments.batches import BatchConfig  # noqa: TC001 - msgspec reads the annotations at run time
from tap_nosto_segments.config import CONFIG
from tap_nosto_segments.errors import SettingsError
from tap_nosto_segments.nosto.credential import Credential
from tap_nosto_segments.nosto.export import ExportSource
from tap_nosto_segments.nosto.urls import is_http, require_secure
from tap_nosto_segments.text import is_blank

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# the SDK applies defaults to missing settings, but not to those that are null
# settings whose values are copied from Nosto's admin, often with spaces or a line break around them
PASTED = ("export_url", "export_token", "api_token", "graphql_url")
DEFAULTS = {name: schema["default"] for name, schema in CONFIG.to_dict()["properties"].items() if "default" in schema}


@dataclass(frozen=True, slots=True)
class Selection:
    """The chosen segments: shell-style patterns, case-sensitive.

    Args:
        include: patterns of the segments to synchronise.
        exclude: patterns of the segments to exclude from them.
        exact: the patterns with brackets that are the name of a segment, and stand for that segment only.
    """

    include: tuple[str, ...]
    exclude: tuple[str, ...]
    exact: frozenset[str] = frozenset()

    def among(self, names: Collection[str]) -> Selection:
        """Return the selection among known segments: "Sale [A]" means the segment of this name if there is one, and else "Sale A"."""
        return replace(self, exact=frozenset(name for name in (*self.include, *self.exclude) if "[" in name and name in names))

    def chooses(self, name: str) -> bool:
        """Return whether a segment of this name is chosen. A blank name can never be a label."""
        return (
            any(self._matches(name, pattern) for pattern in self.include)
            and not any(self._matches(name, pattern) for pattern in self.exclude)
            and not is_blank(name)
        )

    def chosen(self, names: Iterable[str]) -> list[str]:
        """Return the chosen ones of these names, sorted."""
        return sorted(name for name in names if self.chooses(name))

    def unmatched_patterns(self, names: Collection[str]) -> list[tuple[str, str]]:
        """Return the patterns that match none of these names, each after the name of its setting."""
        patterns = [("segments", pattern) for pattern in self.include] + [("exclude_segments", pattern) for pattern in self.exclude]
        return [
            (setting, pattern)
            for setting, pattern in patterns
            # "*" is right even if there are no segments
            if pattern != "*" and not any(self._matches(name, pattern) for name in names)
        ]

    def _matches(self, name: str, pattern: str) -> bool:
        return name == pattern if pattern in self.exact else fnmatchcase(name, pattern)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings. Percentages are whole numbers, ages are in hours, timeouts in seconds."""

    export_url: str
    export_token: str | None = None
    export_auth: str
    export_auth_name: str | None = None
    export_link_pointer: str | None = None
    segment_identifier: str | None = None
    segments: tuple[str, ...]
    exclude_segments: tuple[str, ...]
    api_token: str | None = None
    graphql_url: str
    snapshot_uri: str
    max_shrink_percent: int
    shrink_override_date: datetime.date | None = None
    max_invalid_lines: int
    allow_empty_export: bool
    max_export_age_hours: int
    request_timeout: int
    batch_config: BatchConfig | None = None

    @property
    def selection(self) -> Selection:
        """The chosen segments."""
        return Selection(self.segments, self.exclude_segments)

    @property
    def export_source(self) -> ExportSource:
        """Where the export is, and how to get it."""
        credential = Credential(self.export_url, self.export_auth, self.export_auth_name, self.export_token)
        return ExportSource(self.export_url, credential, self.export_link_pointer)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Settings:
        """Return the settings of a configuration that follows `CONFIG`.

        Raises:
            SettingsError: a setting is invalid, or two settings contradict each other.
        """
        values = {**DEFAULTS, **{name: value for name, value in config.items() if value is not None}}
        for name in PASTED:
            if isinstance(text := values.get(name), str):
                values[name] = text.strip()
        try:
            # not strict: JSON Schema accepts 5.0 as an integer, too
            settings = msgspec.convert(values, cls, strict=False)
        except msgspec.ValidationError:
            # JSON Schema has checked everything except whether the date exists
            msg = f"shrink_override_date is {values.get('shrink_override_date')!r}, which is not a date: write it as YYYY-MM-DD."
            raise SettingsError(msg) from None
        if is_http(settings.export_url):
            _require_usable_token(settings)
        if settings.api_token:
            require_secure(settings.graphql_url, "graphql_url")
        return settings


def _require_usable_token(settings: Settings) -> None:
    """Reject a token that is missing, or that HTTP cannot carry as configured."""
    require_secure(settings.export_url, "export_url")
    token, auth, name = settings.export_token or "", settings.export_auth, settings.export_auth_name
    if auth != "none" and not token:
        msg = (
            "export_token is not set: Nosto does not deliver the export without the integration token. Set it, or set export_auth to "
            "none."
        )
        raise SettingsError(msg)
    if auth in {"header", "query"} and not name:
        msg = (
            f"export_auth_name is not set, but export_auth is {auth}: set the name of the header or query parameter for the token."
        )
        raise SettingsError(msg)
    if not (token.isascii() and token.isprintable()):
        msg = (
            "export_token contains a line break or another character that is not allowed in a token, so nothing was sent. Copy it "
            "again from Nosto's admin."
        )
        raise SettingsError(msg)
    if auth == "header" and not HEADER_NAME.fullmatch(name or ""):
        msg = (
            f"export_auth_name is {name!r}, which is not a valid header name, so nothing was sent. Use letters, digits and hyphens."
        )
        raise SettingsError(msg)
