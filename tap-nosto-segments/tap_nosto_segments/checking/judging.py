"""Test every assumption."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tap_nosto_segments.assumptions import ASSUMPTIONS
from tap_nosto_segments.checking import catalogue, content, transport
from tap_nosto_segments.checking.verdict import Verdict

if TYPE_CHECKING:
    from tap_nosto_segments.checking.evidence import Evidence

TESTS = {**transport.TESTS, **content.TESTS, **catalogue.TESTS}


def judge(evidence: Evidence) -> list[Verdict]:
    """Return the verdict on each assumption, in the order of `ASSUMPTIONS`."""
    return [Verdict(assumption, TESTS[assumption.id](evidence)) for assumption in ASSUMPTIONS]
