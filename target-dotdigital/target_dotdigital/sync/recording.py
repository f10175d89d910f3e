"""Records in the ledger how a run ended."""

from __future__ import annotations

import datetime
import logging
from typing import TYPE_CHECKING, Any

from target_dotdigital.errors import LedgerError
from target_dotdigital.ledger.imports import count_cleared, delete_old_imports
from target_dotdigital.ledger.runs import RunFigures, delete_old_runs, end_run
from target_dotdigital.records import Verdict
from target_dotdigital.reporting.report import RunStatus
from target_dotdigital.texts import shown

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from target_dotdigital.reporting.folder import ReportFolder
    from target_dotdigital.reporting.report import Report
    from target_dotdigital.sync.agreement import States
    from target_dotdigital.sync.opening import OpenRun


LOGGER = logging.getLogger("target-dotdigital")
# outcomes after which the counts of the segments are not those of a delivered run
NOT_DELIVERED = frozenset({RunStatus.BRAKED, RunStatus.FAILED})


def record_end(opened: OpenRun, report: Report, states: States) -> None:
    """Record outcome, end and figures of a run that was allowed to write, so that the command `runs` can show them.

    The number of cleared contacts, which only the ledger knows, is added to the report.

    Args:
        opened: the run.
        report: its complete report.
        states: what the STATE messages of the input say.
    """
    planned, verdicts, engine = report.planned, report.tally.verdicts, opened.place.ledger.engine
    with engine.connect() as connection:
        report.cleared = count_cleared(connection, opened.number) if report.tally.sent else 0
    figures = RunFigures(
        read=report.intake.read,
        sent=report.tally.sent,
        created=verdicts[Verdict.CREATED],
        updated=verdicts[Verdict.UPDATED],
        cleared=report.cleared,
        rejected=verdicts[Verdict.REJECTED],
        unconfirmed=report.tally.unconfirmed,
        bookmarks=bookmark_values(states.end, opened.collector.streams),
        restored_run=report.restored,
    )
    segments = planned.segments if planned is not None and report.outcome not in NOT_DELIVERED else None
    finished_at = report.finished_at.isoformat() if report.finished_at else None
    with engine.begin() as connection:
        end_run(connection, opened.number, report.outcome, segments, finished_at=finished_at, figures=figures)


def delete_history(opened: OpenRun, folder: ReportFolder) -> None:
    """Delete what is older than `history_days`: deliveries and runs in the ledger, and reports of single runs.

    A failure is logged, because the run has delivered everything, and the next one deletes the same.
    """
    place, days = opened.place, opened.place.settings.history_days
    if not days:
        return
    before = place.clock.now() - datetime.timedelta(days=days)
    try:
        images = delete_old_imports(place.ledger.engine, place.account.id, before.timestamp())
        with place.ledger.engine.begin() as connection:
            ended = delete_old_runs(connection, place.account.id, before.isoformat())
        if images:
            place.ledger.give_back_space()
        folder.remove_before(before)
    except (LedgerError, OSError) as error:
        LOGGER.warning("What is older than history_days could not be deleted; the next run tries again. %s", error)
        return
    if images or ended:
        LOGGER.info("History: %d deliveries and %d runs older than %d days deleted", images, ended, days)


def leave(opened: OpenRun, outcome: str) -> None:
    """End a run that did nothing, and release ledger and lock; a run that was not allowed to write leaves no trace.

    Args:
        opened: the run.
        outcome: what is recorded as its outcome.
    """
    opened.connection.rollback()
    if opened.writes:
        with opened.place.ledger.engine.begin() as connection:
            end_run(connection, opened.number, outcome, finished_at=opened.place.clock.now().isoformat())
    opened.place.close()


def bookmark_values(state: Any, streams: AbstractSet[str]) -> dict[str, str | int | float]:
    """Return the replication values of the streams of an input as its last STATE has them: for a sync, the source's own time.

    Values that could be an address are left out, because the runs are shown to people who did not ask about one.
    """
    bookmarks = state.get("bookmarks") if isinstance(state, dict) else None
    if not isinstance(bookmarks, dict):
        return {}
    values = {
        stream: bookmarks[stream].get("replication_key_value")
        for stream in sorted(streams)
        if isinstance(bookmarks.get(stream), dict)
    }
    return {
        shown(stream): shown(value) if isinstance(value, str) else value
        for stream, value in values.items()
        if type(value) in {int, float} or (isinstance(value, str) and value and "@" not in value)
    }
