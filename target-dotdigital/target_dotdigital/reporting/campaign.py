"""What a marketer builds in dotdigital with the labels: rules for segments and dynamic content, and personalisation. No I/O.

Sources, all in dotdigital's help centre: a rule of a segment or of a dynamic content block names a contact data field, an operator and a
text (212213738; 8198893, which also says that dynamic content blocks take no Liquid). `contact.data` followed by a field's name in
lower case is its value (8198943). Tags with `if` and `else` stand in HTML comments, because of the reserved characters in them
(8198946). These documents show `==` and `>`; `contains` is an operator of Liquid itself, so the page asks to try it first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

# comparing every label with every other takes quadratic time
MAX_COMPARED = 500
MAX_NAMED = 5
# other field names would need a notation that dotdigital does not document
PLAIN_FIELD = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
# these would end the tag or the comment around it
BREAKS_LIQUID = ("%}", "}}", "--", "\n", "\r")


@dataclass(frozen=True, slots=True)
class Rule:
    """How to select the contacts of a segment in dotdigital.

    Args:
        segment: name of the segment in Nosto.
        contacts: contacts in it.
        fields: data fields; the rule holds if one of them does.
        text: what the field has to contain.
        snippet: the same condition in Liquid; None if the text cannot be written in it.
        also: other segments whose contacts the rule selects, too; some of them if there are many.
    """

    segment: str
    contacts: int
    fields: tuple[str, ...]
    text: str
    snippet: str | None
    also: tuple[str, ...]


def rules(facts: dict[str, Any]) -> list[Rule]:
    """Return a rule for each segment of a report, largest segment first.

    Args:
        facts: the report as JSON values.
    """
    labels: dict[str, Any] | None = facts["labels"]
    segments: dict[str, dict[str, int]] = facts["segments"]
    if labels is None:
        return []
    fields = tuple(labels["fields"])
    delimiter: str = labels["delimiter"] if labels["enclosed"] else ""
    # what the data field holds for a contact that is in this segment only
    texts = {name: f"{delimiter}{labels['renamed'].get(name, name)}{delimiter}" for name in segments}
    folded = {name: text.casefold() for name, text in list(texts.items())[:MAX_COMPARED]}
    return [
        Rule(
            name,
            segments[name]["contacts"],
            fields,
            texts[name],
            snippet(fields, texts[name]),
            tuple(_also_selected(name, texts[name].casefold(), folded))[:MAX_NAMED],
        )
        for name in sorted(segments, key=lambda name: (-segments[name]["contacts"], name))
    ]


def snippet(fields: Iterable[str], text: str) -> str | None:
    """Return the Liquid that shows content to contacts whose field contains a text; None if it cannot be written.

    Args:
        fields: data fields; one of them has to contain the text.
        text: the text.
    """
    names = list(fields)
    quote = next((mark for mark in "'\"" if mark not in text), None)
    if quote is None or any(part in text for part in BREAKS_LIQUID) or not all(map(PLAIN_FIELD.fullmatch, names)):
        return None
    condition = " or ".join(f"contact.data.{name.lower()} contains {quote}{text}{quote}" for name in names)
    return f"<!--{{% if {condition} %}}-->For this segment<!--{{% else %}}-->For everybody else<!--{{% endif %}}-->"


def _also_selected(name: str, text: str, folded: dict[str, str]) -> Iterable[str]:
    """Yield the segments whose own text contains a text; dotdigital may not tell capitals apart."""
    return (other for other, value in folded.items() if other != name and text in value)
