"""Emits the figures of a run as Singer metrics in the log, for monitoring."""

from __future__ import annotations

import enum
import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from singer_sdk import metrics

from target_dotdigital.models import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from target_dotdigital.reporting.report import Report

# the SDK's own logger, so that one logging rule covers all metrics
LOGGER = logging.getLogger(metrics.METRICS_LOGGER_NAME)


class Metric(enum.StrEnum):
    """Metric names, in addition to the SDK's own `record_count`."""

    SENT = "contacts_sent"
    CREATED = "contacts_created"
    UPDATED = "contacts_updated"
    REJECTED = "contacts_rejected"
    LEFT_OUT = "records_left_out"
    UNCONFIRMED = "contacts_unconfirmed"
    WAITING = "contacts_waiting"
    HELD = "contacts_held"
    CALLS = "http_request_count"
    WAITED = "wait_seconds"
    SECONDS = "run_seconds"


def emit(report: Report) -> None:
    """Write a run's metrics to the log."""
    for point in _points(report):
        metrics.log(LOGGER, point)


def _points(report: Report) -> Iterator[metrics.Point[float]]:
    tally = report.tally
    status = {"status": report.outcome.value}
    counted = {
        Metric.SENT: tally.sent,
        Metric.CREATED: tally.verdicts[Verdict.CREATED],
        Metric.UPDATED: tally.verdicts[Verdict.UPDATED],
        Metric.REJECTED: tally.verdicts[Verdict.REJECTED],
        Metric.LEFT_OUT: sum(report.intake.invalid.values()),
        Metric.UNCONFIRMED: tally.unconfirmed,
        Metric.WAITING: report.remaining.pending,
        Metric.HELD: report.remaining.held,
    }
    for metric, count in counted.items():
        yield _point("counter", metric, count, status)
    for kind, calls in report.traffic.calls.items():
        # a text log shows the name and the value of a metric, but not its tags
        yield _point("counter", f"{Metric.CALLS}.{kind.replace(' ', '_')}", calls, {**status, "endpoint": kind})
    yield _point("timer", Metric.WAITED, round(report.traffic.waited, 3), status)
    if report.finished_at is not None:
        yield _point("timer", Metric.SECONDS, (report.finished_at - report.started_at).total_seconds(), status)


def _point(kind: str, metric: str, value: float, tags: dict[str, str]) -> metrics.Point[float]:
    # the SDK's type allows only its own names, but only the value of the name is used
    return metrics.Point(kind, cast("metrics.Metric", SimpleNamespace(value=str(metric))), value, dict(tags))
