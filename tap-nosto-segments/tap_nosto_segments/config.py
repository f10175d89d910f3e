"""The JSON schema of the settings. `--about`, `meltano.yml`, the READMEs and `.env.example` are generated from it."""

from __future__ import annotations

from singer_sdk import typing as th

AUTH_METHODS = ("basic", "bearer", "header", "query", "none")
PERCENT_BOUNDS = {"minimum": 0, "maximum": 100}
DATE_PATTERN = r"^\d{4}-\d{2}-\d{2}$"

CONFIG = th.PropertiesList(
    th.Property(
        "export_url",
        th.StringType(nullable=False),
        required=True,
        title="Export address",
        description=(
            "Address of the Segment Export as Nosto's admin shows it (https), or a local path or fsspec URL of a file in the same "
            "format. Plain http is rejected, except on loopback."
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
        allowed_values=list(AUTH_METHODS),
        title="Authentication method",
        description=(
            "How the token is sent: basic (empty user name, token as password), bearer, header or query (named by "
            "export_auth_name), or none."
        ),
    ),
    th.Property(
        "export_auth_name",
        th.StringType(nullable=False),
        title="Header or parameter name",
        description="Name of the header or query parameter that carries the token. Required if export_auth is header or query.",
    ),
    th.Property(
        "export_link_pointer",
        th.StringType(nullable=False, pattern=r"^(/.*)?$"),
        title="Link pointer",
        description="If the export address returns JSON with a link to the file: the JSON pointer to that link, such as /data/url.",
    ),
    th.Property(
        "segment_identifier",
        th.StringType(nullable=False),
        title="Segment identifier",
        description=(
            "Key that holds the segment names, as entered in Nosto when the export was enabled. By default it is detected in the "
            "first records; the run stops if several keys qualify."
        ),
    ),
    th.Property(
        "segments",
        th.ArrayType(th.StringType(nullable=False)),
        default=["*"],
        title="Segments to synchronise",
        description=(
            "Shell-style patterns of the names of segments to synchronise, case-sensitive. A pattern that is the name of a segment means "
            "that segment, even with brackets in it. The run warns of a pattern that matches nothing, and stops if none matches."
        ),
    ),
    th.Property(
        "exclude_segments",
        th.ArrayType(th.StringType(nullable=False)),
        default=[],
        title="Segments to exclude",
        description="Patterns, as in segments, of the names of segments to exclude from those that match segments.",
    ),
    th.Property(
        "api_token",
        th.StringType(nullable=False),
        secret=True,
        title="GraphQL token",
        description="Nosto API token of type API_APPS, to read the catalogue of segments (IDs, renamed segments). Optional.",
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
        description=("Folder for the snapshots: a local path, or an fsspec URL (s3://, gs://, abfs://) for ephemeral workers."),
    ),
    th.Property(
        "max_shrink_percent",
        th.IntegerType(**PERCENT_BOUNDS),
        default=20,
        title="Maximum shrinkage (percent)",
        description=(
            "Guard: stop if the export, or one chosen segment, has lost more than this percentage of its contacts since the "
            "bookmark's snapshot. Counts below 100 are not checked. 100 disables the guard."
        ),
    ),
    th.Property(
        "shrink_override_date",
        th.StringType(nullable=False, pattern=DATE_PATTERN),
        title="Shrink override date",
        description="Date (UTC, YYYY-MM-DD) on which max_shrink_percent does not stop the run.",
    ),
    th.Property(
        "max_invalid_lines",
        th.IntegerType(minimum=0),
        default=0,
        title="Maximum malformed lines",
        description=(
            "Guard: stop if more lines than this are malformed: not a JSON object, no address, or no list of names. The contacts of lines "
            "that are allowed keep the segments that were last known."
        ),
    ),
    th.Property(
        "allow_empty_export",
        th.BooleanType(),
        default=False,
        title="Allow an empty export",
        description="Accept an export without contacts, which removes all of them. Nosto makes empty files for staging accounts.",
    ),
    th.Property(
        "max_export_age_hours",
        th.IntegerType(minimum=0),
        default=48,
        title="Maximum export age (hours)",
        description="Guard: stop if the export was made longer ago than this, if its age is known. 0 disables the guard.",
    ),
    th.Property(
        "request_timeout",
        th.IntegerType(minimum=1),
        default=300,
        title="Request timeout (seconds)",
        description="Seconds to wait for Nosto to answer, or to send the next part of an answer.",
    ),
    # in place of the SDK's own: only what this tap can write
    th.Property(
        "batch_config",
        th.ObjectType(
            th.Property(
                "encoding",
                th.ObjectType(
                    th.Property("format", th.StringType(nullable=False), required=True, allowed_values=["jsonl"]),
                    th.Property("compression", th.StringType(nullable=False), allowed_values=["gzip", "none"]),
                    additional_properties=False,
                ),
                required=True,
            ),
            th.Property(
                "storage",
                th.ObjectType(
                    th.Property("root", th.StringType(nullable=False, min_length=1), required=True),
                    th.Property("prefix", th.StringType(pattern=r"^[^/\\]*$")),
                    additional_properties=False,
                ),
                required=True,
            ),
            additional_properties=False,
        ),
        title="Batch configuration",
        description=(
            "Write the records into files (JSONL, with gzip or without) in the folder storage.root, and BATCH messages that name them, "
            "in place of RECORD messages. A run deletes the files of the one before it."
        ),
    ),
    additional_properties=False,
)
