"""The settings. Each is declared once: the JSON schema, `--about` and everything generated from it follow from `Settings`."""

from __future__ import annotations

import datetime  # noqa: TC003 - msgspec reads the annotations
import re
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from tap_nosto_segments.errors import SettingsError
from tap_nosto_segments.nosto.client import Credential, is_http, require_secure
from tap_nosto_segments.nosto.export import ExportSource
from tap_nosto_segments.text import is_blank

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

AuthMethod = Literal["basic", "bearer", "header", "query", "none"]
AUTH_METHODS: tuple[str, ...] = get_args(AuthMethod)
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
SECRET = {"secret": True, "writeOnly": True}
# values that are copied from Nosto's admin, often with spaces or a line break around them
PASTED = ("export_url", "export_token", "api_token", "graphql_url")


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
        """Return the chosen names among these, sorted."""
        return sorted(name for name in names if self.chooses(name))

    def unmatched_patterns(self, names: Collection[str]) -> list[tuple[str, str]]:
        """Return the patterns that match none of these names, each after the name of its setting."""
        patterns = [("segments", pattern) for pattern in self.include] + [("exclude_segments", pattern) for pattern in self.exclude]
        return [
            (setting, pattern)
            for setting, pattern in patterns
            # "*" is correct even if there are no segments
            if pattern != "*" and not any(self._matches(name, pattern) for name in names)
        ]

    def _matches(self, name: str, pattern: str) -> bool:
        return name == pattern if pattern in self.exact else fnmatchcase(name, pattern)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings. Percentages are whole numbers, ages are in hours, timeouts in seconds."""

    export_url: Annotated[
        str,
        Meta(
            title="Export address",
            description="Address of the Segment Export as Nosto's admin shows it (https), or a local path or fsspec URL of a file in the "
            "same format. Plain http is rejected, except on loopback.",
        ),
    ]
    export_token: Annotated[
        str | None,
        Meta(
            title="Integration token",
            description="The integration token that Nosto shows when the Segment Export is enabled.",
            extra_json_schema=SECRET,
        ),
    ] = None
    export_auth: Annotated[
        AuthMethod,
        Meta(
            title="Authentication method",
            description="How the token is sent: basic (empty user name, token as password), bearer, header or query (named by "
            "export_auth_name), or none.",
            extra_json_schema={"enum": list(AUTH_METHODS)},  # msgspec sorts them
        ),
    ] = "basic"
    export_auth_name: Annotated[
        str | None,
        Meta(
            title="Header or parameter name",
            description="Name of the header or query parameter that carries the token. Required if export_auth is header or query.",
        ),
    ] = None
    export_link_pointer: Annotated[
        str | None,
        Meta(
            title="Link pointer",
            description="If the export address returns JSON with a link to the file: the JSON pointer to that link, such as /data/url.",
            extra_json_schema={"pattern": r"^(/.*)?$"},
        ),
    ] = None
    segment_identifier: Annotated[
        str | None,
        Meta(
            title="Segment identifier",
            description="Key that holds the segment names, as entered in Nosto when the export was enabled. By default it is detected in "
            "the first records; the run stops if several keys qualify.",
        ),
    ] = None
    segments: Annotated[
        tuple[str, ...],
        Meta(
            title="Segments to synchronise",
            description="Shell-style patterns of the names of segments to synchronise, case-sensitive. A pattern that is the name of a "
            "segment means that segment, even with brackets in it. The run warns of a pattern that matches nothing, and stops if none "
            "matches.",
        ),
    ] = ("*",)
    exclude_segments: Annotated[
        tuple[str, ...],
        Meta(
            title="Segments to exclude",
            description="Patterns, as in segments, of the names of segments to exclude from those that match segments.",
        ),
    ] = ()
    api_token: Annotated[
        str | None,
        Meta(
            title="GraphQL token",
            description="Nosto API token of type API_APPS, to read the catalogue of segments (IDs, renamed segments). Optional.",
            extra_json_schema=SECRET,
        ),
    ] = None
    graphql_url: Annotated[str, Meta(title="GraphQL address", description="Address of Nosto's GraphQL API.")] = (
        "https://api.nosto.com/v1/graphql"
    )
    snapshot_uri: Annotated[
        str,
        Meta(
            title="Snapshot folder",
            description="Folder for the snapshots: a local path, or an fsspec URL (s3://, gs://, abfs://) for ephemeral workers.",
        ),
    ] = ".tap-nosto-segments/snapshots"
    max_shrink_percent: Annotated[
        int,
        Meta(
            ge=0,
            le=100,
            title="Maximum shrinkage (percent)",
            description="Guard: stop if the export, or one chosen segment, has lost more than this percentage of its contacts since the "
            "bookmark's snapshot. Counts below 100 are not checked. 100 disables the guard.",
        ),
    ] = 20
    shrink_override_date: Annotated[
        datetime.date | None,
        Meta(
            title="Shrink override date",
            description="Date (UTC, YYYY-MM-DD) on which max_shrink_percent does not stop the run.",
            extra_json_schema={"pattern": r"^\d{4}-\d{2}-\d{2}$"},
        ),
    ] = None
    max_invalid_lines: Annotated[
        int,
        Meta(
            ge=0,
            title="Maximum malformed lines",
            description="Guard: stop if more lines than this are malformed: not a JSON object, no address, or no list of names. The "
            "contacts of lines that are allowed keep the segments that were last known.",
        ),
    ] = 0
    allow_empty_export: Annotated[
        bool,
        Meta(
            title="Allow an empty export",
            description="Accept an export without contacts, which removes all of them. Nosto makes empty files for staging accounts.",
        ),
    ] = False
    max_export_age_hours: Annotated[
        int,
        Meta(
            ge=0,
            title="Maximum export age (hours)",
            description="Guard: stop if the export was made longer ago than this, if its age is known. 0 disables the guard.",
        ),
    ] = 48
    request_timeout: Annotated[
        int,
        Meta(
            ge=1,
            title="Request timeout (seconds)",
            description="Seconds to wait for Nosto to answer, or to send the next part of an answer.",
        ),
    ] = 300

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
        """Return the settings of a configuration that follows `json_schema`. A setting that is null has its default.

        Raises:
            SettingsError: a setting is invalid, or two settings contradict each other.
        """
        values = {name: value for name, value in config.items() if value is not None}
        for name in PASTED:
            if isinstance(text := values.get(name), str):
                values[name] = text.strip()
        try:
            # not strict: JSON Schema accepts 5.0 as an integer
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


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of the settings, in the form that the SDK's own settings have: null is the same as no value."""
    declared = msgspec.json.schema(Settings)["$defs"]["Settings"]
    properties = {
        name: _property(facts, is_required=name in declared["required"]) for name, facts in declared["properties"].items()
    }
    return {"type": "object", "properties": properties, "required": declared["required"], "additionalProperties": False}


def _property(facts: dict[str, Any], *, is_required: bool) -> dict[str, Any]:
    value: dict[str, Any] = next((form for form in facts.pop("anyOf", ()) if form != {"type": "null"}), {})
    merged = {"type": "string", **value, **facts}
    merged.pop("format", None)  # the pattern already expresses the format
    if merged.get("default", ...) is None:
        del merged["default"]
    elif isinstance(merged.get("default"), tuple):
        merged["default"] = list(merged["default"])  # the SDK fills defaults in, and then validates them
    return {**merged, "type": [merged["type"]] if is_required else [merged["type"], "null"]}


def _require_usable_token(settings: Settings) -> None:
    """Reject a token that is missing, or that HTTP cannot carry as configured."""
    require_secure(settings.export_url, "export_url")
    token, auth, name = settings.export_token or "", settings.export_auth, settings.export_auth_name
    msg = None
    if auth != "none" and not token:
        msg = (
            "export_token is not set: Nosto does not deliver the export without the integration token. Set it, or set export_auth to "
            "none."
        )
    elif auth in {"header", "query"} and not name:
        msg = (
            f"export_auth_name is not set, but export_auth is {auth}: set the name of the header or query parameter for the token."
        )
    elif not (token.isascii() and token.isprintable()):
        msg = (
            "export_token contains a line break or another character that is not allowed in a token, so nothing was sent. Copy it "
            "again from Nosto's admin."
        )
    elif auth == "header" and not HEADER_NAME.fullmatch(name or ""):
        msg = (
            f"export_auth_name is {name!r}, which is not a valid header name, so nothing was sent. Use letters, digits and hyphens."
        )
    if msg is not None:
        raise SettingsError(msg)
