"""Lists every start of the sync: the runs of the ledger, and the starts that only the report folder has."""

from __future__ import annotations

import datetime
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from target_dotdigital.commands.ledger_view import open_view, scope_title
from target_dotdigital.commands.tables import UNKNOWN, counted, duration, moment, number, table
from target_dotdigital.errors import TargetError
from target_dotdigital.ledger.runs import RunFigures, RunRecord, count_runs, latest_run, recent_runs
from target_dotdigital.reporting.history import past_runs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from target_dotdigital.clock import Clock
    from target_dotdigital.settings import Settings

COUNTS = ("read", "sent", "created", "updated", "cleared", "rejected", "unconfirmed")
HEADER = ("Run", "Started (UTC)", "Duration", "Outcome", *(name.capitalize() for name in COUNTS), "Source at")
NUMBERS = (0, *range(4, 4 + len(COUNTS)))
UNFINISHED, BROKEN_OFF = "unfinished", "broken off"
# of a start that the ledger does not contain
NO_NUMBER = 0
NO_RUNS = "No run has started for this account and data field yet."


def list_runs(settings: Settings, clock: Clock, limit: int, *, as_json: bool) -> None:
    """Print the last starts, newest first, without taking the lock of a run that is working.

    Args:
        settings: the settings.
        clock: injectable clock.
        limit: maximum number of starts.
        as_json: whether to print JSON.

    Raises:
        TargetError: the ledger is missing or unusable; the starts in the report folder are printed before.
    """
    recorded, latest, failure, hints = list[RunRecord](), None, None, list[str]()
    account, total = None, 0
    try:
        with open_view(settings, clock) as view:
            numbers = count_runs(view.connection)
            if view.scope is not None:
                recorded, latest = recent_runs(view.connection, view.scope.id, limit), latest_run(view.connection, view.scope.id)
                account, total = view.scope.account_id, numbers.get(view.scope.id, 0)
            hints = [
                f"Also in this ledger: {counted(numbers[scope.id], 'run')} for {scope_title(scope)}."
                for scope in view.others
                if numbers.get(scope.id)
            ]
    except TargetError as error:
        failure = error
    others = itertools.islice(_other_starts(settings, account, recorded), limit)
    found = sorted([*recorded, *others], key=lambda run: datetime.datetime.fromisoformat(run.started_at), reverse=True)[:limit]
    if failure is not None and not found:
        raise failure
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode([_to_json(run, latest) for run in found]), indent=2).decode())
    else:
        click.echo("\n".join(runs_table(found, latest)) if found else NO_RUNS)
        if (hidden := total - sum(run.run != NO_NUMBER for run in found)) > 0:
            click.echo(f"Older and not shown: {counted(hidden, 'run')}. --limit shows more.")
        for hint in hints:
            click.echo(hint)
    if failure is not None:
        raise failure


def _other_starts(settings: Settings, account: int | None, recorded: Sequence[RunRecord]) -> Iterator[RunRecord]:
    """Yield the starts that only the report folder has, newest first: those that failed early, had no input, or were not allowed to write.

    Args:
        settings: the settings.
        account: ID of the account; None if it is not known.
        recorded: runs of the ledger.
    """
    known = {datetime.datetime.fromisoformat(run.started_at) for run in recorded}
    for run in past_runs(Path(settings.report_dir)):
        is_elsewhere = (account is not None and run.account.id not in {None, account}) or run.data_field.upper() not in {
            "",
            settings.data_field.upper(),
        }
        if run.started_at not in known and not is_elsewhere:
            finished = run.finished_at.isoformat() if run.finished_at else None
            yield RunRecord(NO_NUMBER, run.started_at.isoformat(), finished, run.outcome, None)


def runs_table(found: Sequence[RunRecord], latest: int | None) -> Iterator[str]:
    """Yield the lines of a table of runs.

    Args:
        found: the runs.
        latest: number of the last run of all, the only one that can still be working.
    """
    rows = []
    for run in found:
        figures = run.figures
        counts = [number(getattr(figures, name, None)) for name in COUNTS]
        source = ", ".join(map(str, figures.bookmarks.values())) if figures and figures.bookmarks else UNKNOWN
        name = UNKNOWN if run.run == NO_NUMBER else str(run.run)
        rows.append([name, moment(run.started_at), duration(_seconds(run)), _outcome(run, latest), *counts, source])
    yield from table(HEADER, rows, NUMBERS)


def _outcome(run: RunRecord, latest: int | None) -> str:
    """Return how a run ended; only the last run can still be working."""
    outcome = run.outcome or (UNFINISHED if run.run == latest else BROKEN_OFF)
    restored = run.figures.restored_run if run.figures else None
    return outcome if restored is None else f"{outcome}, restored run {restored}"


def _to_json(run: RunRecord, latest: int | None) -> dict[str, Any]:
    figures = run.figures
    return {
        "run": None if run.run == NO_NUMBER else run.run,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "duration_seconds": _seconds(run),
        "outcome": run.outcome or _outcome(run, latest),
        **{name: getattr(figures, name, None) for name in COUNTS},
        "restored_run": figures.restored_run if figures else None,
        "bookmarks": (figures or RunFigures()).bookmarks,
    }


def _seconds(run: RunRecord) -> float | None:
    if run.finished_at is None:
        return None
    started, finished = (datetime.datetime.fromisoformat(text) for text in (run.started_at, run.finished_at))
    return round((finished - started).total_seconds(), 1)
