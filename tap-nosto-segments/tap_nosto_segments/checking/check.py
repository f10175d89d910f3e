"""Run the check and print its result."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tap_nosto_segments.checking.authorisation import try_each_form
from tap_nosto_segments.checking.collecting import Collector
from tap_nosto_segments.checking.judging import judge
from tap_nosto_segments.checking.table import show_attempts, show_evidence, show_verdicts
from tap_nosto_segments.checking.verdict import Outcome

if TYPE_CHECKING:
    import datetime
    from collections.abc import Callable, Iterable, Sequence

    from tap_nosto_segments.settings import Settings


def check(
    settings: Settings,
    sleep: Callable[[float], None],
    now: Callable[[], datetime.datetime],
    bookmarks: Sequence[str | None],
    *,
    maps: str | None,
    needs_catalogue: bool,
    tries_authorisation: bool,
) -> None:
    """Check the settings and the assumptions about Nosto on the real export; store and emit nothing.

    Args:
        settings: the settings.
        sleep: pause between two attempts, in seconds.
        now: clock, in UTC.
        bookmarks: the snapshot IDs in the bookmarks of the selected streams.
        maps: what identifies the stream maps of the contacts; None if no contacts are emitted.
        needs_catalogue: whether a run stops if the catalogue cannot be read.
        tries_authorisation: whether to try each form of authorisation first.

    Raises:
        TapError: a run would stop, for this reason.
    """
    if tries_authorisation:
        _print(show_attempts(try_each_form(settings), settings.export_auth))
    evidence = Collector(settings, sleep, now, maps).collect(bookmarks, needs_catalogue=needs_catalogue)
    verdicts = judge(evidence)
    _print([*show_evidence(evidence), "", *show_verdicts(verdicts), ""])
    if evidence.failure is not None:
        raise evidence.failure
    refuted = sum(verdict.finding.outcome is Outcome.REFUTED for verdict in verdicts)
    remark = f" {refuted} assumption{'s are' if refuted > 1 else ' is'} refuted: see above what that means." if refuted else ""
    _print([f"OK: a run would get past its guards. Nothing was stored or emitted.{remark}"])


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)
