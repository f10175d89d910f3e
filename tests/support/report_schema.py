"""Checks reports against their published schema."""

from __future__ import annotations

import importlib.resources
import json
from functools import cache
from typing import Any

from openapi_schema_validator import OAS31Validator


@cache
def report_schema() -> dict[str, Any]:
    """Read the schema that the package ships."""
    file = importlib.resources.files("target_dotdigital.reporting") / "report.schema.json"
    schema: dict[str, Any] = json.loads(file.read_text())
    return schema


def deviations(facts: dict[str, Any]) -> list[str]:
    """Return how a report deviates from the schema."""
    return [error.message for error in OAS31Validator(report_schema()).iter_errors(facts)]
