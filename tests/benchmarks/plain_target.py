"""The baseline: a plain SDK target whose BatchSink only counts."""

from __future__ import annotations

from typing import Any, ClassVar

from singer_sdk import BatchSink, Target
from singer_sdk import typing as th


class CountingSink(BatchSink):
    """Counts what comes."""

    max_size = 10_000

    def process_batch(self, context: dict[str, Any]) -> None:
        """Count a batch."""
        self.logger.info("%d records", len(context["records"]))


class PlainTarget(Target):
    """A target as the SDK's templates make it."""

    name = "plain-target"
    config_jsonschema: ClassVar[dict[str, Any]] = th.PropertiesList().to_dict()
    default_sink_class = CountingSink


if __name__ == "__main__":
    PlainTarget.cli()
