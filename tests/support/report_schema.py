"""Checks reports against their published schema."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from openapi_schema_validator import OAS31Validator

PUBLISHED = Path(__file__).parents[2] / "docs" / "reference" / "report.schema.json"


@cache
def _schema() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(PUBLISHED.read_text())
    return schema


def deviations(facts: dict[str, Any]) -> list[str]:
    """Return how a report deviates from the schema."""
    return [error.message for error in OAS31Validator(_schema()).iter_errors(facts)]
