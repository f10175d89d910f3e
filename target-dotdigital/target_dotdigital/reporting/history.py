"""The history: the reports of the last runs, and the charts that are drawn from them."""

from __future__ import annotations

import contextlib
import datetime  # noqa: TC003 - msgspec reads the annotations
import itertools
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from target_dotdigital.reporting.report import HEALTHY, RunStatus
from target_dotdigital.text import make_private_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

FOLDER = "runs"
DEFAULT_KEEP = 100
# the contacts that a run changed, beside its report
TABLE_SUFFIX = ".csv"
PART = ".part"
# longer than any file takes to write
MAX_WRITE_SECONDS = 3600.0
MAX_SHOWN = 30
MAX_DAYS = 7
TROUBLED = frozenset({RunStatus.FAILED, RunStatus.BRAKED, RunStatus.INCOMPLETE, RunStatus.NO_INPUT})

# units of the drawings, which the page stretches
LANE_HEIGHT = 28.0
MIN_BAR = 2.0
BAR_STEP = 10
SPARK_WIDTH, SPARK_HEIGHT = 100.0, 20.0
# keeps bars narrow when there are few runs
MIN_BARS = 15
MAX_DATES = 4


class _Account(msgspec.Struct, frozen=True):
    id: int | None = None
    name: str = ""


class _Segment(msgspec.Struct, frozen=True):
    contacts: int
    joined: int = 0
    left: int = 0


class PastRun(msgspec.Struct, frozen=True):
    """What the page shows of an earlier run; `ReportDocument` describes the values."""

    started_at: datetime.datetime
    outcome: RunStatus
    run: int = 0
    finished_at: datetime.datetime | None = None
    account: _Account = _Account()
    address_book: str = ""
    data_field: str = ""
    sent: int = 0
    created: int = 0
    updated: int = 0
    cleared: int = 0
    rejected: int = 0
    restored_run: int | None = None
    labels: dict[str, Any] | None = None
    segments: dict[str, _Segment] = {}

    @property
    def is_trouble(self) -> bool:
        """Whether the run did not end as it should."""
        return self.outcome in TROUBLED

    @property
    def is_settled(self) -> bool:
        """Whether dotdigital had the labels of the source after the run."""
        return self.outcome in HEALTHY and bool(self.segments) and self.restored_run is None

    @property
    def is_restored(self) -> bool:
        """Whether the run put labels back, so that they may differ from the segments of the source."""
        return self.restored_run is not None and self.sent > 0

    def shares_destination(self, other: PastRun) -> bool:
        """Return whether both runs are for the same account and data field; a run that failed early may lack its own."""
        if None in {self.account.id, other.account.id}:
            return True
        return (self.account.id, self.data_field) == (other.account.id, other.data_field)


def past_run(facts: dict[str, Any]) -> PastRun:
    """Return a report, given as JSON values, as a run of the history."""
    return msgspec.convert(facts, PastRun)


def past_runs(folder: Path, own: str | None = None) -> Iterator[PastRun]:
    """Yield the runs of the history, newest first; unreadable files are left out, because a page without an old run is better than none.

    Args:
        folder: the report folder.
        own: file of the current run, which is left out.
    """
    for path in _newest_first(folder / FOLDER):
        if own is not None and path == folder / own:
            continue
        try:
            yield msgspec.json.decode(path.read_bytes(), type=PastRun)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            continue


def read_history(folder: Path, current: PastRun, own: str | None = None) -> tuple[list[PastRun], PastRun | None]:
    """Return the last runs for the same account and data field, oldest first, and the last run whose labels dotdigital has.

    The latter may be older than the others. It is None if there is none, or if a run was restored since.

    Args:
        folder: the report folder.
        current: the current run, which is the last.
        own: file of the current run, if it was written before.
    """
    runs = itertools.chain([current], (run for run in past_runs(folder, own) if run.shares_destination(current)))
    shown = list(itertools.islice(runs, MAX_SHOWN))
    delivered = next((run for run in itertools.chain(shown, runs) if run.is_settled or run.is_restored), None)
    return shown[::-1], delivered if delivered is not None and delivered.is_settled else None


def history_name(folder: Path, started_at: datetime.datetime) -> str:
    """Return the name of a run's file, relative to the report folder; names sort by start.

    Args:
        folder: the report folder; its folder of runs is created if it is missing.
        started_at: start of the run, in UTC.

    Raises:
        OSError: the folder cannot be created.
    """
    make_private_folder(folder / FOLDER)
    start = _start_of_name(started_at)
    # two runs may start at the same time, if one of them finds the account locked
    number = next(number for number in range(1_000_000) if not (folder / FOLDER / f"{start}-{number:06}.json").exists())
    return f"{FOLDER}/{start}-{number:06}.json"


def prune(folder: Path, keep: int) -> None:
    """Remove the files of older runs, and what killed processes left behind, which may hold addresses.

    Args:
        folder: the report folder.
        keep: number of runs to keep, besides the last one that was delivered.

    Raises:
        OSError: a file cannot be removed.
    """
    paths = list(_newest_first(folder / FOLDER))
    for path in _without_last_settled(paths[:keep], paths[keep:]):
        path.with_suffix(TABLE_SUFFIX).unlink(missing_ok=True)
        path.unlink(missing_ok=True)
    parts = (*folder.glob(f".*{PART}"), *(folder / FOLDER).glob(f".*{PART}"))
    tables = (path for path in (folder / FOLDER).glob(f"*{TABLE_SUFFIX}") if not path.with_suffix(".json").exists())
    for part in (*parts, *tables):
        with contextlib.suppress(FileNotFoundError):
            if part.is_file() and time.time() - part.stat().st_mtime > MAX_WRITE_SECONDS:
                part.unlink()


def _without_last_settled(kept: Sequence[Path], older: Sequence[Path]) -> list[Path]:
    """Return the older files without the one that the page still shows if no kept run was delivered."""
    if not older or any(map(_is_settled, kept)):
        return list(older)
    last = next((path for path in older if _is_settled(path)), None)
    return [path for path in older if path != last]


def _is_settled(path: Path) -> bool:
    try:
        return past_run(msgspec.json.decode(path.read_bytes())).is_settled
    except (OSError, msgspec.DecodeError):
        return False


def prune_before(folder: Path, moment: datetime.datetime) -> None:
    """Remove the files of runs that started before a moment, in UTC.

    Raises:
        OSError: a file cannot be removed.
    """
    for path in _newest_first(folder / FOLDER):
        if path.name < _start_of_name(moment):
            path.with_suffix(TABLE_SUFFIX).unlink(missing_ok=True)
            path.unlink(missing_ok=True)


def _start_of_name(moment: datetime.datetime) -> str:
    return f"{moment:%Y%m%dT%H%M%S.%fZ}"


def _newest_first(folder: Path) -> Iterator[Path]:
    yield from sorted(folder.glob("[0-9]*.json"), reverse=True)


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a chart, whose foot is at the bottom of the lane; and the run and the count that it stands for."""

    x: int
    y: float
    height: float
    run: PastRun
    count: int


@dataclass(frozen=True, slots=True)
class Lane:
    """A row of the chart: one figure over the runs, except those in which it is 0. Tone is its colour, highest the highest count."""

    label: str
    tone: str
    bars: tuple[Bar, ...]
    highest: int
    width: int


@dataclass(frozen=True, slots=True)
class Line:
    """The size of a segment over time: points of an SVG polyline, the runs, and the counts after them."""

    points: str
    runs: tuple[PastRun, ...]
    counts: tuple[int, ...]


def lanes(runs: Sequence[PastRun]) -> list[Lane]:
    """Return the rows of the chart, each with its own scale.

    Args:
        runs: the runs, oldest first.
    """
    return [
        _lane("Created", "good", runs, [run.created for run in runs]),
        _lane("Updated", "", runs, [run.updated for run in runs]),
        _lane("Cleared", "warn", runs, [run.cleared for run in runs]),
        _lane("Rejected", "bad", runs, [run.rejected for run in runs]),
        _lane("Failures", "bad", runs, [int(run.is_trouble) for run in runs]),
    ]


def _lane(label: str, tone: str, runs: Sequence[PastRun], counts: list[int]) -> Lane:
    highest = max(counts, default=0)
    bars = []
    for index, (run, count) in enumerate(zip(runs, counts, strict=True)):
        if count:
            # by the square root, because a first load would flatten every day after it
            height = max(MIN_BAR, LANE_HEIGHT * math.sqrt(count / highest))
            bars.append(Bar(BAR_STEP * index, round(LANE_HEIGHT - height, 1), round(height, 1), run, count))
    return Lane(label, tone, tuple(bars), highest, BAR_STEP * max(len(counts), MIN_BARS))


def dates(runs: Sequence[PastRun]) -> list[tuple[float, PastRun]]:
    """Return the runs whose dates are written under the chart, each with its position in percent of the width."""
    width = max(len(runs), MIN_BARS)
    return [(100 * index / width, runs[index]) for index in range(0, len(runs), math.ceil(width / MAX_DATES))]


def segment_lines(runs: Sequence[PastRun]) -> dict[str, Line]:
    """Return a line for each segment that at least two runs have counted.

    Args:
        runs: the runs, oldest first.
    """
    settled = tuple(run for run in runs if run.is_settled)
    if len(settled) < 2:  # noqa: PLR2004 - a line needs two points
        return {}
    return {
        name: _line(settled, tuple(run.segments[name].contacts if name in run.segments else 0 for run in settled))
        for name in settled[-1].segments
    }


def _line(runs: tuple[PastRun, ...], counts: tuple[int, ...]) -> Line:
    low, high = min(counts), max(counts)
    step = SPARK_WIDTH / (len(counts) - 1)
    points = " ".join(
        f"{step * index:.0f},{SPARK_HEIGHT - 2 - (SPARK_HEIGHT - 4) * ((count - low) / (high - low) if high > low else 0.5):.0f}"
        for index, count in enumerate(counts)
    )
    return Line(points, runs, counts)
