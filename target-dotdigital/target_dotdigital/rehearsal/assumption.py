"""The form of an assumption about dotdigital."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Assumption:
    """Something that the sync takes for granted about dotdigital, and how to find out whether it is true.

    Args:
        id: stable name.
        title: the assumption in a few words, for people who do not write code.
        statement: the assumption in full.
        source: where it comes from: section of contracts/dotdigital.md.
        grade: how good the source is: A dotdigital's documents, B its specification or code, C third party, D inference.
        check: how the rehearsal checks it.
        expected: what the rehearsal sees if it is true.
        by_hand: how to check it without the rehearsal, in dotdigital's user interface.
        if_wrong: what would happen to the sync if it were wrong.
        consequence: what to do if it is refuted: which setting to change, or not to activate.
        implies: assumptions that may be refuted for the same cause.
    """

    id: str
    title: str
    statement: str
    source: str
    grade: str
    check: str
    expected: str
    by_hand: str
    if_wrong: str
    consequence: str
    implies: tuple[str, ...] = ()
