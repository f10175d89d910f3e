"""What makes large accounts fast changes nothing in what is delivered: bulk staging, doubt about open imports, reading ahead."""

from __future__ import annotations

import contextlib
import re
import threading
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from nosto_dotdigital_sandbox import Fault
from nosto_dotdigital_sandbox.web import Response
from support.oracle import FIELD
from support.running import Pipeline, run_target, singer
from target_dotdigital.dotdigital.contacts import CONTACTS_PER_PAGE, prefetch_pages
from target_dotdigital.sync.intake import RECORDS_PER_BATCH

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nosto_dotdigital_sandbox import Sandbox

LEDGERS = ["sqlite", "postgresql"]
ANN = "ann@example.com"


def ann(*segments: str) -> str:
    return singer([{"email": ANN, "segments": list(segments)}])


def values(sandbox: Sandbox) -> dict[str, Any]:
    return {email: contact.data_fields.get(FIELD) for email, contact in sandbox.account.snapshot().items()}


def test_the_last_of_several_records_counts_also_far_apart(pipeline: Pipeline, sandbox: Sandbox) -> None:
    many = [{"email": f"p{number}@example.com", "segments": ["A"]} for number in range(2 * RECORDS_PER_BATCH)]
    later = [
        {"email": f"p{number}@example.com", "segments": ["B"]} for number in range(0, 2 * RECORDS_PER_BATCH, RECORDS_PER_BATCH // 2)
    ]
    assert pipeline.load(singer([*many, *later])).code == 0
    expected = {record["email"]: record["segments"][0] for record in [*many, *later]}
    assert {email: value.strip("|") for email, value in values(sandbox).items()} == expected
    assert pipeline.report["duplicates"] == len(later)


@pytest.mark.parametrize("ending", ["Failed", "Finished"])
def test_an_open_import_is_no_proof_that_the_old_labels_are_there(pipeline: Pipeline, sandbox: Sandbox, ending: str) -> None:
    pipeline.target |= {"import_timeout": 60, "max_change_percent": 100}
    pipeline.load(ann("A"))
    sandbox.account.import_polls = 10_000
    sandbox.account.outcomes = [ending]
    assert pipeline.load(ann("B")).code == 1
    # also if it is new in dotdigital, so that the next run reads it back
    sandbox.account.by_email[ANN].created = sandbox.account.timestamp()
    dry = run_target({**pipeline.target, "dry_run": True}, ann("A"), pipeline.time)
    assert dry.code == 0, dry.log
    # A is confirmed, but B is on its way
    assert pipeline.report["plan"]["resent"] == 1
    sandbox.account.import_polls = 0
    for job in sandbox.account.imports.values():
        job.polls = 0
    assert pipeline.load(ann("A")).code == 0
    assert values(sandbox)[ANN].strip("|") == "A"


def test_a_run_that_died_before_it_knew_the_import_leaves_its_contacts_in_doubt(pipeline: Pipeline, sandbox: Sandbox) -> None:
    pipeline.target["max_change_percent"] = 100
    pipeline.load(ann("A"))
    pipeline.load(ann("B"))
    engine = sa.create_engine(pipeline.target["ledger_url"])
    with engine.begin() as connection:
        # the ledger of a run that was killed between recording the rows of A -> B and the answer of dotdigital
        connection.exec_driver_sql(
            "UPDATE dotdigital_imports SET state = 'submitting', import_id = NULL, result_run = NULL "
            "WHERE id = (SELECT max(import) FROM dotdigital_deliveries)"
        )
        connection.exec_driver_sql(
            "UPDATE dotdigital_contacts SET confirmed = (SELECT before FROM dotdigital_deliveries ORDER BY import DESC LIMIT 1)"
        )
    engine.dispose()
    assert pipeline.load(ann("A")).code == 0
    assert values(sandbox)[ANN].strip("|") == "A"


def test_a_page_that_cannot_be_read_ends_the_run_with_its_own_error(pipeline: Pipeline, sandbox: Sandbox) -> None:
    for number in range(CONTACTS_PER_PAGE + 1):
        sandbox.account.add_contact(f"p{number}@example.com")
    sandbox.faults.add(Fault(method="GET", path=r"/contacts/v3\?", response=Response(403, b"{}"), nth=2))
    outcome = pipeline.load(ann("A"))
    assert outcome.code == 1
    assert "denied access to 'contacts' (status 403)" in outcome.errors[-1]
    assert "read-ahead" not in {thread.name for thread in threading.enumerate()}


def test_reading_ahead_reads_one_item_and_no_more() -> None:
    read: list[int] = []
    done = threading.Semaphore(0)

    def items() -> Iterator[int]:
        for number in range(5):
            read.append(number)
            done.release()
            yield number

    ahead = prefetch_pages(items())
    assert next(ahead) == 0
    # the first two were begun, and nothing more happens until somebody asks
    assert done.acquire(timeout=5)
    assert done.acquire(timeout=5)
    assert not done.acquire(timeout=0.05)
    assert read == [0, 1]
    assert list(ahead) == [1, 2, 3, 4]


@contextlib.contextmanager
def full_passes() -> Iterator[list[str]]:
    """Collect the statements for which SQLite looks at every contact."""
    found: list[str] = []

    def explain(connection: sa.Connection, _cursor: object, statement: str, parameters: Any, _context: object, many: bool) -> None:  # noqa: FBT001 - SQLAlchemy's signature
        if "dotdigital_contacts" not in statement or statement.startswith(("CREATE", "PRAGMA", "INSERT INTO sqlite_")):
            return
        driver: Any = connection.connection.driver_connection
        plan = driver.execute(f"EXPLAIN QUERY PLAN {statement}", parameters[0] if many else parameters).fetchall()
        if any(re.search(r"SCAN dotdigital_contacts|dotdigital_contacts USING PRIMARY KEY \(scope=\?\)", line[3]) for line in plan):
            found.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", explain)
    try:
        yield found
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", explain)


def test_a_day_looks_at_every_contact_only_to_count_them(pipeline: Pipeline, sandbox: Sandbox) -> None:
    if not pipeline.target["ledger_url"].startswith("sqlite"):
        pytest.skip("PostgreSQL keeps statistics of its own")
    people = [{"email": f"p{number:02d}@example.com", "segments": ["A"]} for number in range(50)]
    first = singer(people, state={"bookmarks": {"people": {"replication_key_value": "1"}}})
    begin = first.splitlines(keepends=True)[-1]
    assert pipeline.load(first).code == 0
    sandbox.account.add_contact("new@example.com")
    changed = [
        {"email": "p01@example.com", "segments": ["B"]},
        {"email": "p02@example.com", "segments": [], "_sdc_deleted_at": "2026-11-24T00:00:00Z"},
        {"email": "new@example.com", "segments": ["A"]},
    ]
    with full_passes() as passes:
        day = singer(changed, state={"bookmarks": {"people": {"replication_key_value": "2"}}})
        assert pipeline.load(begin + day).code == 0
    assert (pipeline.report["updated"], pipeline.report["created"]) == (3, 0)
    # shared IDs of removed contacts, what the ledger believes, contacts of each segment, labelled contacts
    what = [re.findall(r"^SELECT (?:dotdigital_contacts\.)?(\w+)", statement) for statement in passes]
    assert what == [["contact_id"], ["coalesce"], ["names"], ["count"]]
