"""Rules for marketers: which text a rule of a dotdigital segment or dynamic content block has to contain. No I/O.

A rule has a contact data field, an operator and a text (dotdigital's help centre, articles 212213738 and 8198893).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

# comparing every label with every other takes quadratic time
MAX_COMPARED = 500
MAX_NAMED = 5


@dataclass(frozen=True, slots=True)
class Rule:
    """How to select the contacts of a segment in dotdigital.

    Args:
        segment: name of the segment in Nosto.
        contacts: contacts in it.
        fields: data fields; the rule holds if one of them does.
        text: what the field has to contain.
        also: other segments whose contacts the rule selects, too; some of them if there are many.
    """

    segment: str
    contacts: int
    fields: tuple[str, ...]
    text: str
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
            tuple(_also_selected(name, texts[name].casefold(), folded))[:MAX_NAMED],
        )
        for name in sorted(segments, key=lambda name: (-segments[name]["contacts"], name))
    ]


def _also_selected(name: str, text: str, folded: dict[str, str]) -> Iterable[str]:
    """Yield the segments whose own text contains a text; dotdigital may not tell capitals apart."""
    return (other for other, value in folded.items() if other != name and text in value)
