"""What makes large accounts fast changes nothing in what is delivered: bulk staging, doubt about open imports, reading ahead."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from nosto_dotdigital_sandbox import Fault
from nosto_dotdigital_sandbox.web import Response
from support.oracle import FIELD
from support.running import Pipeline, run_target, singer
from target_dotdigital.dotdigital.contacts import CONTACTS_PER_PAGE
from target_dotdigital.dotdigital.read_ahead import read_ahead
from target_dotdigital.sync.intake import BATCH

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
    many = [{"email": f"p{number}@example.com", "segments": ["A"]} for number in range(2 * BATCH)]
    later = [{"email": f"p{number}@example.com", "segments": ["B"]} for number in range(0, 2 * BATCH, BATCH // 2)]
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
            "UPDATE dotdigital_imports SET state = 'submitting', import_id = NULL, settled_run = NULL "
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

    ahead = read_ahead(items())
    assert next(ahead) == 0
    # the first two were begun, and nothing more happens until somebody asks
    assert done.acquire(timeout=5)
    assert done.acquire(timeout=5)
    assert not done.acquire(timeout=0.05)
    assert read == [0, 1]
    assert list(ahead) == [1, 2, 3, 4]
