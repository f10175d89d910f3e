"""The baseline: a plain SDK tap that yields the same records as the export holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from singer_sdk import Stream, Tap
from singer_sdk import typing as th

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Contacts(Stream):
    """One record for each line of the export."""

    name = "contact_segments"
    primary_keys: ClassVar[tuple[str, ...]] = ("email",)
    schema: ClassVar[dict[str, Any]] = th.PropertiesList(
        th.Property("email", th.StringType, required=True),
        th.Property("segments", th.ArrayType(th.StringType)),
        th.Property("exported_at", th.DateTimeType),
        th.Property("_sdc_deleted_at", th.DateTimeType),
    ).to_dict()

    def get_records(self, context: object) -> Iterable[dict[str, Any]]:
        """Yield every line."""
        del context
        with Path(self.config["path"]).open(encoding="utf-8") as file:
            for line in file:
                record = json.loads(line)
                yield {
                    "email": record["email"].strip().lower(),
                    "segments": sorted(record["nosto_segments"]),
                    "exported_at": "2026-11-01T04:00:00Z",
                    "_sdc_deleted_at": None,
                }


class PlainTap(Tap):
    """A tap as the SDK's templates make it."""

    name = "plain-tap"
    config_jsonschema: ClassVar[dict[str, Any]] = th.PropertiesList(th.Property("path", th.StringType, required=True)).to_dict()

    def discover_streams(self) -> Sequence[Stream]:
        """Give the one stream."""
        return [Contacts(self)]


if __name__ == "__main__":
    PlainTap.cli()
