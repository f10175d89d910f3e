"""One ledger and several workers: one run at a time, and another machine continues where a killed run stopped."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from nosto_dotdigital_sandbox import Fault
from support.pooler import open_pooler
from support.running import BIN, Pipeline, singer
from target_dotdigital.errors import AnotherRunError, LedgerError
from target_dotdigital.ledger.database import open_ledger

if TYPE_CHECKING:
    from pathlib import Path

    from nosto_dotdigital_sandbox import Sandbox

LEDGERS = ["sqlite", "postgresql"]
TEXT = singer([{"email": f"p{number}@example.com", "segments": ["A"]} for number in range(40)])


def test_of_two_runs_one_delivers_and_the_other_says_why_not(pipeline: Pipeline, sandbox: Sandbox) -> None:
    others: list[tuple[int, list[str]]] = []

    def start_another(_request: object) -> None:
        ledger = open_ledger(pipeline.target["ledger_url"])
        try:
            with ledger.locked(sandbox.account.id):
                others.append((0, []))
        except Exception as error:  # noqa: BLE001 - its text is what is shown
            others.append((1, [str(error)]))
        finally:
            ledger.close()

    sandbox.faults.add(Fault("rewrite", method="PUT", before=start_another, rewrite=lambda response: response))
    assert pipeline.load(TEXT).code == 0
    assert [code for code, _ in others] == [1]
    assert "Another run is working on this account" in others[0][1][0]
    assert len(sandbox.account.snapshot()) == 40
    start_another(None)
    assert others[-1] == (0, [])


def test_another_machine_continues_where_a_killed_run_stopped(pipeline: Pipeline, sandbox: Sandbox, tmp_path: Path) -> None:
    running: list[subprocess.Popen[str]] = []

    def kill(_request: object) -> None:
        running[0].kill()
        running[0].wait(10)

    pipeline.target |= {"contacts_per_import": 10, "max_active_imports": 4}
    sandbox.faults.add(Fault("drop_before", path="/contacts/v3/import/", before=kill))
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**pipeline.target, "poll_interval_ms": 300}))
    running.append(
        subprocess.Popen([BIN / "target-dotdigital", "--config", path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    )
    output, _ = running[0].communicate(TEXT, timeout=60)
    assert output == ""
    accepted = [call for call in sandbox.journal.imports() if call.status == 202]
    assert len(accepted) == 4

    elsewhere = Pipeline(sandbox, tmp_path / "elsewhere", pipeline.time, target=dict(pipeline.target))
    elsewhere.target["report_dir"] = str(tmp_path / "elsewhere" / "reports")
    assert elsewhere.load(TEXT).code == 0
    assert len([call for call in sandbox.journal.imports() if call.status == 202]) == 4, "polled by their ids, not sent again"
    assert len(sandbox.account.snapshot()) == 40
    assert elsewhere.report["created"] == 40


# The lock


@pytest.mark.every_ledger
def test_a_lock_that_is_lost_stops_the_run_before_its_next_import(pipeline: Pipeline, sandbox: Sandbox) -> None:
    url = pipeline.target["ledger_url"]
    if not url.startswith("sqlite"):
        pipeline.target["ledger_url"] = f"{url}&application_name=ledger"
    pipeline.target |= {"contacts_per_import": 10, "max_active_imports": 1}

    def lose(_request: object) -> None:
        if url.startswith("sqlite"):
            (pipeline.folder / f"ledger.db.{sandbox.account.id}.lock").unlink()
            return
        engine = sa.create_engine(url)
        with engine.connect() as connection:
            # a time-out of the server or a failover ends the session that holds the lock, and no other one
            ended = sa.text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ledger' "
                "AND pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory')"
            )
            assert connection.scalars(ended).all() == [True]
        engine.dispose()

    sandbox.faults.add(Fault("rewrite", method="PUT", before=lose, rewrite=lambda response: response))
    outcome = pipeline.load(TEXT)
    assert (outcome.code, outcome.output) == (1, "")
    assert outcome.errors[-1].startswith("The lock on the ledger is lost")
    assert (pipeline.report["outcome"], pipeline.report["problems"][0]) == ("failed", outcome.errors[-1])
    assert (pipeline.report["sent"], pipeline.report["created"]) == (10, 10)
    assert len(sandbox.journal.imports()) == 1
    assert pipeline.load(TEXT).code == 0
    assert len(sandbox.account.snapshot()) == 40


@pytest.mark.every_ledger
@pytest.mark.parametrize("account", [2**31, 2**32 + 101, 2**53 + 1])
def test_accounts_with_long_ids_are_locked_each_by_its_own(pipeline: Pipeline, account: int) -> None:
    ledger, other = open_ledger(pipeline.target["ledger_url"]), open_ledger(pipeline.target["ledger_url"])
    try:
        with ledger.locked(account), other.locked(account % 2**31), other.locked(account + 2**32):
            ledger.require_lock()
            other.require_lock()
            with pytest.raises(AnotherRunError), other.locked(account):
                pass
        ledger.require_lock()
        with other.locked(account):
            pass
    finally:
        ledger.close()
        other.close()


def test_an_account_with_a_long_id_is_synced(pipeline: Pipeline, sandbox: Sandbox) -> None:
    sandbox.account.id = 2**40 + 5
    pipeline.activate()
    assert pipeline.load(TEXT).code == 0
    assert len(sandbox.account.snapshot()) == 40


@pytest.mark.parametrize("shares", [True, False])
def test_a_pooler_is_refused_if_it_shares_sessions(postgres: sa.URL, shares: bool) -> None:  # noqa: FBT001 - a case
    assert postgres.port is not None
    with open_pooler(postgres.port, shares=shares) as port:
        # without a pool of its own, the server's sessions end with the test
        url = postgres.set(port=port).render_as_string(hide_password=False)
        ledger = open_ledger(url)
        try:
            if shares:
                with pytest.raises(LedgerError, match="pooler that shares sessions"), ledger.locked(101):
                    pass
            else:
                with ledger.locked(101):
                    ledger.require_lock()
        finally:
            ledger.close()
