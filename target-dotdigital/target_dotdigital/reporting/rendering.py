"""Renders pages from templates whose values are not trusted."""

from __future__ import annotations

from functools import cache

import jinja2

from target_dotdigital.texts import without_controls


@cache
def environment() -> jinja2.Environment:
    """Return the environment of the pages: names of segments, fields and programs are escaped, and control characters removed."""
    return jinja2.Environment(
        finalize=lambda value: without_controls(value) if type(value) is str else value,
        loader=jinja2.PackageLoader("target_dotdigital.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
