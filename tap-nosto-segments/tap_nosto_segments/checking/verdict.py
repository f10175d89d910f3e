"""The verdict on one assumption."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tap_nosto_segments.assumptions import Assumption


class Outcome(StrEnum):
    """How the test of an assumption ended."""

    CONFIRMED = "confirmed"
    REFUTED = "refuted"
    NOT_TESTED = "not tested"


@dataclass(frozen=True, slots=True)
class Finding:
    """What the test of an assumption found.

    Args:
        outcome: how it ended.
        expected: what the assumption predicts; empty if it was not tested.
        seen: what was seen; empty if it was not tested.
        reason: why it was not tested; empty otherwise.
    """

    outcome: Outcome
    expected: str = ""
    seen: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """An assumption and what its test found."""

    assumption: Assumption
    finding: Finding


def compared(*, holds: bool, expected: str, seen: str) -> Finding:
    """Return the finding of a comparison."""
    return Finding(Outcome.CONFIRMED if holds else Outcome.REFUTED, expected, seen)


def not_tested(reason: str) -> Finding:
    """Return the finding that an assumption was not tested."""
    return Finding(Outcome.NOT_TESTED, reason=reason)
