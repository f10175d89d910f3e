"""Renders the report of a run as an HTML page."""

from __future__ import annotations

from typing import Any

import jinja2

from target_dotdigital.reporting.advice import ADVICE
from target_dotdigital.texts import without_controls


def page(facts: dict[str, Any]) -> str:
    """Render the report as HTML."""
    environment = jinja2.Environment(
        # segment names are untrusted
        finalize=lambda value: without_controls(value) if type(value) is str else value,
        loader=jinja2.PackageLoader("target_dotdigital.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(**facts, advice=ADVICE)
