"""The schema of the settings: `--about`, `meltano.yml`, the README and `.env.example` follow it."""

from __future__ import annotations

from singer_sdk import typing as th

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
        description=(
            "Shell-style patterns of the segment names to synchronise, case-sensitive. The run stops if they choose no segment that is "
            "known to exist."
        ),
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
