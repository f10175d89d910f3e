"""Lists the runs of the ledger, and those that failed before the ledger could record them."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from target_dotdigital.commands.companions import Companion, command_option
from target_dotdigital.commands.reading import open_view, place_of
from target_dotdigital.commands.tables import UNKNOWN, counted, duration, moment, number, table
from target_dotdigital.ledger.runs import RunFigures, RunRecord, count_runs, latest_run, recent_runs
from target_dotdigital.reporting.history import past_runs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from target_dotdigital.clock import Clock
    from target_dotdigital.settings import Settings

DEFAULT_LIMIT = 20
COUNTS = ("read", "sent", "created", "updated", "cleared", "rejected", "unconfirmed")
HEADER = ("Run", "Started (UTC)", "Duration", "Outcome", *(name.capitalize() for name in COUNTS), "Source at")
NUMBERS = (0, *range(4, 4 + len(COUNTS)))
UNFINISHED, BROKEN_OFF = "unfinished", "broken off"
# of a run that the ledger does not contain
NO_NUMBER = 0
NO_RUNS = "No run has been allowed to write to this account and data field yet."


@dataclass(frozen=True, slots=True)
class RunsRequest:
    """What the operator asks for on the command line.

    Args:
        limit: maximum number of runs.
        json: whether to print JSON.
    """

    limit: int = DEFAULT_LIMIT
    json: bool = False


def run_runs(settings: Settings, clock: Clock, request: Any) -> None:
    """Print the last runs, newest first, without taking the lock of a run that is working.

    Raises:
        TargetError: the ledger is missing or unusable.
    """
    asked = request if isinstance(request, RunsRequest) else RunsRequest()
    with open_view(settings, clock) as view:
        scope = view.scope.id if view.scope else 0
        found = recent_runs(view.connection, scope, asked.limit)
        latest = latest_run(view.connection, scope)
        numbers = count_runs(view.connection)
        failed = _unrecorded(settings, view.scope.account_id if view.scope else None, found)
    found = sorted([*found, *failed], key=lambda run: datetime.datetime.fromisoformat(run.started_at), reverse=True)[: asked.limit]
    if asked.json:
        facts = [_facts(run, latest) for run in found]
        click.echo(msgspec.json.format(msgspec.json.encode(facts), indent=2).decode())
        return
    click.echo("\n".join(runs_table(found, latest)) if found else NO_RUNS)
    if (hidden := numbers.get(scope, 0) - sum(run.run != NO_NUMBER for run in found)) > 0:
        click.echo(f"Older and not shown: {counted(hidden, 'run')}. --limit shows more.")
    for other in view.others:
        if numbers.get(other.id):
            click.echo(f"Also in this ledger: {counted(numbers[other.id], 'run')} for {place_of(other)}.")


def _unrecorded(settings: Settings, account: int | None, recorded: Sequence[RunRecord]) -> Iterator[RunRecord]:
    """Yield the failed runs that only the report folder knows, such as those without input.

    Args:
        settings: the settings.
        account: ID of the account; None if no run has reached the ledger.
        recorded: runs of the ledger.
    """
    known = {datetime.datetime.fromisoformat(run.started_at) for run in recorded}
    for run in past_runs(Path(settings.report_dir)):
        elsewhere = run.account.id not in {None, account} or run.data_field.upper() not in {"", settings.data_field.upper()}
        if run.is_trouble and run.started_at not in known and not elsewhere:
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
        rows.append([name, moment(run.started_at), duration(_seconds(run)), outcome_of(run, latest), *counts, source])
    yield from table(HEADER, rows, NUMBERS)


def outcome_of(run: RunRecord, latest: int | None) -> str:
    """Return how a run ended; only the last run can still be working."""
    outcome = run.outcome or (UNFINISHED if run.run == latest else BROKEN_OFF)
    restored = run.figures.restored_run if run.figures else None
    return outcome if restored is None else f"{outcome}, restored run {restored}"


def _facts(run: RunRecord, latest: int | None) -> dict[str, Any]:
    figures = run.figures
    return {
        "run": None if run.run == NO_NUMBER else run.run,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "duration_seconds": _seconds(run),
        "outcome": run.outcome or outcome_of(run, latest),
        **{name: getattr(figures, name, None) for name in COUNTS},
        "restored_run": figures.restored_run if figures else None,
        "bookmarks": (figures or RunFigures()).bookmarks,
    }


def _seconds(run: RunRecord) -> float | None:
    if run.finished_at is None:
        return None
    started, finished = (datetime.datetime.fromisoformat(text) for text in (run.started_at, run.finished_at))
    return round((finished - started).total_seconds(), 1)


def options() -> list[click.Option]:
    """Return the command-line options of this command, and `--json`, which other commands share."""
    return [
        command_option(
            "--runs",
            RunsRequest,
            "limit",
            "json",
            is_flag=True,
            help=(
                "List the last runs from the ledger, without logging in, and those that failed before they reached it. Reviews and dry "
                "runs are not recorded."
            ),
        ),
        Companion(
            ["--limit"], ("runs",), type=click.IntRange(min=1), help=f"With --runs: number of runs to list ({DEFAULT_LIMIT})."
        ),
        Companion(["--json"], ("runs", "explain"), is_flag=True, default=None, help="With --runs or --explain: print JSON."),
    ]
