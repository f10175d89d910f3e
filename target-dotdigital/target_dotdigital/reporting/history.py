"""Keeps one file per run, and reads the last ones for charts."""

from __future__ import annotations

import contextlib
import datetime  # noqa: TC003 - msgspec reads the annotations
import itertools
import time
from typing import TYPE_CHECKING, Any

import msgspec

from target_dotdigital.private import make_private_folder
from target_dotdigital.reporting.report import RunStatus

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FOLDER = "runs"
DEFAULT_KEEP = 100
PART = ".part"
# no file takes longer to write
PART_SECONDS = 3600.0
MAX_SHOWN = 30
# runs whose counts of segments are those of the account afterwards
SETTLED = frozenset({RunStatus.DELIVERED, RunStatus.PARTLY, RunStatus.NOTHING})
TROUBLED = frozenset({RunStatus.FAILED, RunStatus.BRAKED, RunStatus.INCOMPLETE, RunStatus.NO_INPUT})


class _Account(msgspec.Struct, frozen=True):
    id: int | None = None


class _Segment(msgspec.Struct, frozen=True):
    contacts: int


class PastRun(msgspec.Struct, frozen=True):
    """A run as its report remembers it.

    Args:
        started_at: its start, in UTC.
        outcome: how it ended.
        run: its number; the number of a run that was not allowed to write is used again.
        finished_at: its end; None if it has none.
        account: account that it was for.
        data_field: data field that it wrote to; empty if it failed before it knew it.
        sent: contacts sent.
        created: contacts created.
        updated: contacts updated.
        cleared: updated contacts that lost all labels.
        rejected: contacts rejected.
        restored_run: run whose changes it put back; None for any other run.
        segments: segment -> contacts.
    """

    started_at: datetime.datetime
    outcome: RunStatus
    run: int = 0
    finished_at: datetime.datetime | None = None
    account: _Account = _Account()
    data_field: str = ""
    sent: int = 0
    created: int = 0
    updated: int = 0
    cleared: int = 0
    rejected: int = 0
    restored_run: int | None = None
    segments: dict[str, _Segment] = {}

    @property
    def is_trouble(self) -> bool:
        """Whether the run did not end as it should."""
        return self.outcome in TROUBLED

    @property
    def counts(self) -> dict[str, int] | None:
        """Contacts per segment after the run; None if the run did not settle them, or put other labels back."""
        if self.outcome not in SETTLED or not self.segments or self.restored_run is not None:
            return None
        return {name: segment.contacts for name, segment in self.segments.items()}

    def shares_place(self, other: PastRun) -> bool:
        """Return whether both runs are for the same account and data field, as far as they know theirs."""
        if None in {self.account.id, other.account.id}:
            return True
        return (self.account.id, self.data_field) == (other.account.id, other.data_field)


def past_run(facts: dict[str, Any]) -> PastRun:
    """Return a report as a run of the history.

    Args:
        facts: the report as JSON values.
    """
    return msgspec.convert(facts, PastRun)


def past_runs(folder: Path, own: str | None = None) -> Iterator[PastRun]:
    """Yield the runs of the history, newest first.

    Files that cannot be read are left out: a page without an old run is better than none.

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


def read_history(folder: Path, current: PastRun, own: str | None = None) -> list[PastRun]:
    """Return the last runs for the same account and data field, oldest first, with the current one as the last.

    Args:
        folder: the report folder.
        current: the current run.
        own: file of the current run, if it was written before.
    """
    before = (run for run in past_runs(folder, own) if run.shares_place(current))
    return [current, *itertools.islice(before, MAX_SHOWN - 1)][::-1]


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
    """Remove the files of older runs.

    Args:
        folder: the report folder.
        keep: number of runs to keep.

    Raises:
        OSError: a file cannot be removed.
    """
    for place, path in enumerate(_newest_first(folder / FOLDER)):
        if place >= keep:
            path.unlink(missing_ok=True)
    # what a process that was killed has left behind may hold addresses
    for part in (*folder.glob(f".*{PART}"), *(folder / FOLDER).glob(f".*{PART}")):
        with contextlib.suppress(FileNotFoundError):
            if part.is_file() and time.time() - part.stat().st_mtime > PART_SECONDS:
                part.unlink()


def prune_before(folder: Path, moment: datetime.datetime) -> None:
    """Remove the files of runs that started before a moment, in UTC.

    Raises:
        OSError: a file cannot be removed.
    """
    for path in _newest_first(folder / FOLDER):
        if path.name < _start_of_name(moment):
            path.unlink(missing_ok=True)


def _start_of_name(moment: datetime.datetime) -> str:
    return f"{moment:%Y%m%dT%H%M%S.%fZ}"


def _newest_first(folder: Path) -> Iterator[Path]:
    yield from sorted(folder.glob("[0-9]*.json"), reverse=True)
