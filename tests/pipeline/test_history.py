"""What is older than history_days is deleted: addresses are kept no longer than they serve. What a later run needs stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from support.running import Outcome, Pipeline, run_target, singer
from target_dotdigital.ledger.imports import delete_old_imports

if TYPE_CHECKING:
    from nosto_dotdigital_sandbox import Sandbox

LEDGERS = ["sqlite", "postgresql"]
DAY = 86_400.0
PEOPLE = tuple(f"p{number:02}@example.com" for number in range(6))


def deliver(pipeline: Pipeline, names: str, emails: tuple[str, ...] = PEOPLE, code: int = 0) -> int:
    """Run once with other labels, and return the number of the run."""
    outcome = pipeline.load(singer([{"email": email, "segments": [names]} for email in emails]))
    assert outcome.code == code, outcome.log
    return int(pipeline.report["run"])


def command(pipeline: Pipeline, **options: Any) -> Outcome:
    return run_target(pipeline.target, "", pipeline.time, **options)


def sent(pipeline: Pipeline) -> set[str]:
    """Return the addresses in the before-images."""
    return set(query(pipeline, "SELECT email FROM dotdigital_deliveries"))


def query(pipeline: Pipeline, text: str) -> list[Any]:
    engine = sa.create_engine(pipeline.target["ledger_url"], poolclass=sa.NullPool)
    with engine.connect() as connection:
        return list(connection.scalars(sa.text(text)))


def execute(pipeline: Pipeline, *statements: str) -> None:
    engine = sa.create_engine(pipeline.target["ledger_url"], poolclass=sa.NullPool)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


def test_history_is_as_long_as_the_setting_says(pipeline: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline.target |= {"history_days": 30, "max_change_percent": 100}
    first = deliver(pipeline, "A")
    pipeline.time.skipped += 20 * DAY
    second = deliver(pipeline, "B", PEOPLE[:3])
    assert sent(pipeline) == set(PEOPLE)
    pipeline.time.skipped += 15 * DAY
    third = deliver(pipeline, "C", PEOPLE[:1])
    assert sent(pipeline) == set(PEOPLE[:3])
    assert sorted(query(pipeline, "SELECT id FROM dotdigital_runs")) == [second, third]
    assert len(list((pipeline.folder / "reports" / "runs").glob("[0-9]*.json"))) == 2
    # what is left can be restored, and what is gone says so
    outcome = command(pipeline, restore=True, run=first)
    assert outcome.code == 1
    assert "Deliveries are kept since 2026-10-" in outcome.errors[-1]
    capsys.readouterr()
    outcome = command(pipeline, explain=PEOPLE[5])
    assert outcome.code == 0
    assert "none (kept since 2026-10-" in outcome.output
    assert "which is older than history_days" in outcome.output
    assert command(pipeline, restore=True, run=second).code == 0
    assert pipeline.sandbox.account.snapshot()[PEOPLE[1]].data_fields["NOSTOSEGMENT"] == "A"


@pytest.mark.parametrize("setting", [{"history_days": 0}, {"dry_run": True}, {"max_change_percent": 0}])
def test_nothing_is_deleted_by_a_run_that_may_not(pipeline: Pipeline, setting: dict[str, Any]) -> None:
    everybody = tuple(f"p{number:03}@example.com" for number in range(120))
    deliver(pipeline, "A", everybody)
    pipeline.time.skipped += 1_000 * DAY
    pipeline.target |= setting
    pipeline.load(singer([{"email": email, "segments": ["B"]} for email in everybody]))
    assert len(query(pipeline, "SELECT email FROM dotdigital_deliveries WHERE after LIKE '%\"A\"%'")) == 120


@pytest.mark.parametrize("needed", ["held", "open", "unverified", "lost"])
def test_what_a_later_run_needs_is_kept(pipeline: Pipeline, sandbox: Sandbox, needed: str) -> None:
    deliver(pipeline, "A", PEOPLE[:1])
    if needed == "held":
        sandbox.account.outcomes = ["RejectedByWatchdog"]
    deliver(pipeline, "A", PEOPLE[1:2], code=int(needed == "held"))
    changes = {"open": "state = 'open', result_run = NULL", "unverified": "verified = false", "lost": "lost_at = 1"}
    if needed in changes:
        # an import of another data field, which this run does not deal with
        execute(
            pipeline,
            "INSERT INTO dotdigital_scopes (account_id, data_field) VALUES (101, 'OTHERFIELD')",
            f"UPDATE dotdigital_imports SET {changes[needed]}, scope = 2 WHERE id = (SELECT max(id) FROM dotdigital_imports)",  # noqa: S608
        )
    pipeline.time.skipped += 100 * DAY
    deliver(pipeline, "B", PEOPLE[2:3])
    assert sent(pipeline) == {PEOPLE[1], PEOPLE[2]}


def test_old_rejections_stay_what_they_are(pipeline: Pipeline, sandbox: Sandbox) -> None:
    sandbox.account.refuse = {PEOPLE[0]: "globallySuppressed"}.get
    deliver(pipeline, "A")
    pipeline.time.skipped += 100 * DAY
    sandbox.journal.clear()
    deliver(pipeline, "B", PEOPLE[1:2])
    assert sent(pipeline) == {PEOPLE[1]}
    assert query(pipeline, "SELECT rejection FROM dotdigital_contacts WHERE rejection IS NOT NULL") == ["globallySuppressed"]
    deliver(pipeline, "A", PEOPLE[:1])
    assert len(sandbox.journal.imports()) == 1, "permanently rejected, so not sent again"


def test_deletion_in_pieces_never_leaves_half_a_run(pipeline: Pipeline) -> None:
    pipeline.target["history_days"] = 0
    first = deliver(pipeline, "A")
    deliver(pipeline, "B", PEOPLE[:1])
    engine = sa.create_engine(pipeline.target["ledger_url"], poolclass=sa.NullPool)
    delivered = query(pipeline, "SELECT max(submitted_at) FROM dotdigital_imports")[0]
    assert delete_old_imports(engine, 101, delivered, rows_per_piece=2, most=4) == 4
    # two of six are left for the next run, but no command sees them any more
    left = "SELECT email FROM dotdigital_deliveries WHERE after LIKE '%\"A\"%'"
    assert len(query(pipeline, left)) == 2
    assert command(pipeline, restore=True, run=first).code == 1
    assert delete_old_imports(engine, 101, delivered, rows_per_piece=2, most=4) == 2
    assert query(pipeline, left) == []
    assert sent(pipeline) == {PEOPLE[0]}
    assert query(pipeline, "SELECT id FROM dotdigital_imports WHERE scope = 0") == []


def test_a_failure_to_delete_fails_no_run(pipeline: Pipeline) -> None:
    deliver(pipeline, "A")
    pipeline.time.skipped += 100 * DAY
    (pipeline.folder / "reports" / "runs" / "00000000T000000.000000Z-000000.json").mkdir()
    outcome = pipeline.load(singer([{"email": PEOPLE[0], "segments": ["B"]}]))
    assert outcome.code == 0
    assert "could not be deleted" in outcome.log


def test_a_file_gives_back_the_space_of_what_was_deleted(pipeline: Pipeline) -> None:
    if not pipeline.target["ledger_url"].startswith("sqlite"):
        pytest.skip("a SQLite file")
    everybody = tuple(f"p{number:05}@example.com" for number in range(5_000))
    pipeline.target["max_change_percent"] = 100
    for names in ("A", "B", "C", "D"):
        deliver(pipeline, names, everybody)
    path = pipeline.folder / "ledger.db"
    before, pages = path.stat().st_size, query(pipeline, "PRAGMA page_count")[0]
    pipeline.time.skipped += 100 * DAY
    deliver(pipeline, "E", everybody[:1])
    assert path.stat().st_size < 0.75 * before
    assert 0 < query(pipeline, "PRAGMA freelist_count")[0] <= pages / 10
