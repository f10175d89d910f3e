"""Renders the report of a run as an HTML page."""

from __future__ import annotations

from typing import Any

import jinja2

from target_dotdigital.texts import without_controls

ADVICE = {
    "invalidemail": "The address is not one that can receive mail. Correct it in the shop.",
    "invaliddomain": "The domain of the address does not exist. Correct it in the shop.",
    "globallysuppressed": "dotdigital suppresses this address in every account: it complained, or is a spam trap. Leave it.",
    "suppressedbydomain": "The domain asked dotdigital not to be mailed. Leave it.",
    "blocker": "dotdigital blocks this address. Leave it, or ask its support.",
    "invalidcontactid": "The contact was deleted in dotdigital since. Nothing to do.",
    "invalidaddressbookids": "The address book was deleted while the run worked. Run again.",
    "apischemaviolation": "A value does not fit its data field. Lower max_value_length, or check the field's type.",
    "no e-mail address": "The source holds something that is no e-mail address. Correct it in the shop.",
    "no list of segments": "The record names no list of segments, so its labels were left alone. Check the tap.",
}


def page(facts: dict[str, Any], summary: str) -> str:
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
    return environment.get_template("report.html.j2").render(**facts, summary=summary, advice=ADVICE)
