"""Computes the shapes of the charts in the report. No I/O."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from target_dotdigital.reporting.history import PastRun

# units of the drawings, which the page stretches
LANE_HEIGHT = 28.0
MIN_BAR = 2.0
BAR_WIDTH, BAR_STEP = 8, 10
SPARK_WIDTH, SPARK_HEIGHT = 100.0, 20.0
# a line needs two points
MIN_POINTS = 2
# places of the strip, so that a few runs are not drawn as wide blocks
MIN_PLACES = 15


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a chart; its foot is at the bottom of the lane."""

    x: int
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Lane:
    """A row of the strip: one figure over the runs.

    Args:
        label: what is counted.
        tone: how it is coloured.
        bars: bars of the runs in which it is not 0.
        highest: the highest count.
        width: width of the drawing.
    """

    label: str
    tone: str
    bars: tuple[Bar, ...]
    highest: int
    width: int


@dataclass(frozen=True, slots=True)
class Line:
    """The size of a segment over time.

    Args:
        points: points of an SVG polyline.
        first: first count.
        last: last count.
        runs: number of counts.
    """

    points: str
    first: int
    last: int
    runs: int


def lanes(runs: Sequence[PastRun]) -> list[Lane]:
    """Return the rows of the strip, each with its own scale.

    Args:
        runs: the runs, oldest first.
    """
    return [
        _lane("Created", "good", [run.created for run in runs]),
        _lane("Updated", "", [run.updated for run in runs]),
        _lane("Cleared", "warn", [run.cleared for run in runs]),
        _lane("Rejected", "bad", [run.rejected for run in runs]),
        _lane("Failures", "bad", [int(run.is_trouble) for run in runs]),
    ]


def _lane(label: str, tone: str, counts: list[int]) -> Lane:
    highest = max(counts, default=0)
    # by the square root, because a first load would flatten every day after it
    heights = [max(MIN_BAR, LANE_HEIGHT * math.sqrt(count / highest)) if count else 0.0 for count in counts]
    bars = tuple(
        Bar(BAR_STEP * place, round(LANE_HEIGHT - height, 1), round(height, 1)) for place, height in enumerate(heights) if height
    )
    return Lane(label, tone, bars, highest, BAR_STEP * max(len(counts), MIN_PLACES))


def segment_lines(runs: Sequence[PastRun]) -> dict[str, Line]:
    """Return a line for each segment that at least two runs have counted.

    Args:
        runs: the runs, oldest first.
    """
    settled = [counts for run in runs if (counts := run.counts) is not None]
    if len(settled) < MIN_POINTS:
        return {}
    return {name: _line([counts.get(name, 0) for counts in settled]) for name in settled[-1]}


def _line(counts: list[int]) -> Line:
    low, high = min(counts), max(counts)
    step = SPARK_WIDTH / (len(counts) - 1)
    points = " ".join(
        f"{step * place:.0f},{SPARK_HEIGHT - 2 - (SPARK_HEIGHT - 4) * ((count - low) / (high - low) if high > low else 0.5):.0f}"
        for place, count in enumerate(counts)
    )
    return Line(points, counts[0], counts[-1], len(counts))
