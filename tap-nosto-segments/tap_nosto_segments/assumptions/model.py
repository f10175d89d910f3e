"""One assumption about Nosto."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumption:
    """Something that the tap expects of Nosto.

    Args:
        id: stable name, in snake_case.
        statement: what is assumed.
        source: where it comes from, with the section.
        grade: A: Nosto's documentation says so; B: Nosto's own code; C: a third party; D: our inference.
        check: how `--check` tests it, or why it cannot.
        by_hand: how to check it in Nosto's admin, or with ordinary tools.
        if_wrong: what a run does if the assumption is wrong.
        consequence: what the operator has to do then.
    """

    id: str
    statement: str
    source: str
    grade: str
    check: str
    by_hand: str
    if_wrong: str
    consequence: str
