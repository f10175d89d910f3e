"""A day of many accounts on one machine: one PostgreSQL, one object store, Airflow as the scheduler, and one account that fails."""

from __future__ import annotations

import contextlib
import logging
import re
import statistics
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from many_shops import Tenants
from measuring import BIN
from postgres import Activity, postgres
from processes import measure
from scheduler import PARALLEL, Airflow
from support.running import Pipeline
from support.storage import object_storage
from table import spread
from through_meltano import TAP, TARGET, neutral_environment, write_project

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from many_shops import Tenant
    from processes import Measure
    from table import Table

MAX_SECONDS_PER_ACCOUNT = 60
LIMIT = "start-up of five Python processes for each account; cores"


@dataclass(frozen=True, slots=True)
class Run:
    """One call of Meltano by the scheduler: seconds since 1970, exit code, and processor seconds of all its processes."""

    account: str
    began: float
    ended: float
    code: int
    busy: float


def measure_accounts(folder: Path, table: Table, accounts: int, contacts: int) -> None:
    """Measure the first load and a day of some accounts; in the day, the last account has a wrong password.

    Args:
        folder: where everything goes.
        table: where the figures go.
        accounts: how many.
        contacts: of each.
    """
    folder.mkdir()
    # the object store's, one line for each request
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with contextlib.ExitStack() as cleanup:
        server = cleanup.enter_context(postgres())
        bucket = cleanup.enter_context(object_storage(cleanup.enter_context(pytest.MonkeyPatch.context())))
        tenants = cleanup.enter_context(Tenants(accounts, contacts)).all
        project = folder / "project"
        write_project(project)
        given = {
            "MELTANO_ENVIRONMENT": "prod",
            "MELTANO_STATE_BACKEND_URI": f"{bucket}/state",
            "MELTANO_DATABASE_URI": server.database("meltano"),
            "NOSTO_DOTDIGITAL_SNAPSHOTS": f"{bucket}/snapshots",
        }
        _meltano(project, given, "state", "list")
        ledger = server.database("ledgers")
        listed = [(tenant, _settings(tenant, folder), _secrets(tenant, ledger)) for tenant in tenants]
        airflow = Airflow(folder / "airflow", project, given)
        airflow.accounts(listed)
        with airflow.running():
            days = []
            for day in range(2):
                for tenant in tenants:
                    tenant.publish(day)
                if day:
                    # what autovacuum does overnight
                    server.vacuum()
                    airflow.change_variable(tenants[-1], {**listed[-1][2], "api_password": "wrong"})
                with Activity(server) as activity:
                    before = server.busy()
                    states = airflow.run(f"day_{day}", 120 + accounts * MAX_SECONDS_PER_ACCOUNT)
                days.append((states, _runs(airflow.runs, f"day_{day}"), server.busy() - before, activity))
                _check(states, tenants, day)
        _note(table, days, contacts, airflow.busy)
        _compare_discovery(table, project, {**given, **_direct(listed[0])}, accounts)


def _settings(tenant: Tenant, folder: Path) -> dict[str, Any]:
    """Return an account's entry in `accounts.yml`, with the code that its review shows."""
    pipeline = Pipeline(tenant, folder / "asked" / tenant.name)  # type: ignore[arg-type]  # a tenant has what is needed of a sandbox
    pipeline.folder.mkdir(parents=True)
    return {
        "TAP_NOSTO_SEGMENTS_EXPORT_URL": tenant.export_url,
        "TAP_NOSTO_SEGMENTS_MAX_EXPORT_AGE_HOURS": 0,
        "TARGET_DOTDIGITAL_API_URL": tenant.api_url,
        "TARGET_DOTDIGITAL_ACTIVATION_CODE": pipeline.activate("contact_segments"),
    }


def _secrets(tenant: Tenant, ledger: str) -> dict[str, str]:
    return {"export_token": tenant.nosto.token, "api_user": tenant.user, "api_password": tenant.password, "ledger_url": ledger}


def _check(states: Mapping[str, tuple[str, int]], tenants: Sequence[Tenant], day: int) -> None:
    """Make sure that exactly the account with the wrong password failed, and that all others hold what their exports say."""
    failed = {tenants[-1].name} if day else set()
    assert {name for name, (state, _) in states.items() if state != "success"} == failed, states
    wrong = {tenant.name: tenant.wrong(day) for tenant in tenants if tenant.name not in failed}
    assert not any(wrong.values()), wrong
    assert not day or not tenants[-1].wrong(day - 1), "the account that failed is as it was"


def _runs(folder: Path, name: str) -> list[Run]:
    """Read what the command around Meltano wrote for each run."""
    found = []
    for path in sorted(folder.glob(f"{name}.*")):
        line, *times = path.read_text().splitlines()
        began, ended, code = line.split()
        minutes = re.findall(r"(\d+)m([\d.]+)s", " ".join(times))
        busy = sum(int(whole) * 60 + float(rest) for whole, rest in minutes)
        found.append(Run(path.name.split(".")[1], float(began), float(ended), int(code), busy))
    return found


def _note(table: Table, days: Sequence[tuple[Any, list[Run], float, Activity]], contacts: int, scheduler: float) -> None:
    everything = sum(run.busy for _, runs, _, _ in days for run in runs)
    calls = sum(len(runs) for _, runs, _, _ in days)
    for label, (states, runs, database, activity) in zip(("first load", "day two, 1 % changed"), days, strict=True):
        accounts = len(states)
        what = f"{accounts} accounts of {contacts:,} contacts under Airflow, {PARALLEL} at once, {label}"
        good = [run for run in runs if not run.code]
        seconds = max(run.ended for run in runs) - min(run.began for run in runs)
        lengths = [run.ended - run.began for run in good]
        succeeded = sum(state == "success" for state, _ in states.values())
        tries = sum(tries for _, tries in states.values())
        table.note(
            what,
            f"{seconds:.0f} s; for each account {seconds / accounts:.1f} s by the clock (a run takes {spread(lengths)}), "
            f"Meltano, tap and target {statistics.median(run.busy for run in good):.1f} s of processor time, "
            f"PostgreSQL {database / accounts:.2f} s",
            f"{succeeded} succeeded, {accounts - succeeded} failed; {tries} tries",
            LIMIT,
        )
        connections = ", ".join(f"{count} ({name})" for name, count in sorted(activity.connections.items()))
        table.note(
            f"{what}: PostgreSQL",
            f"longest wait for a lock {activity.longest_wait * 1000:.0f} ms, in {activity.waiting} of {activity.samples} samples; "
            f"most connections at once: {connections}",
            "no account waits for another" if not activity.waiting else "see the waits",
            "100 connections are a server's default",
        )
    table.note(
        f"Airflow's own share, {calls} runs, start of the API server and both schedulers included",
        f"{scheduler - everything:.0f} s of processor time",
        f"{(scheduler - everything) / calls:.1f} s for each run",
        "two processes that import Airflow for each task",
    )


def _direct(listed: tuple[Tenant, dict[str, Any], dict[str, str]]) -> dict[str, str]:
    """Return the environment of one account's run without a scheduler."""
    tenant, settings, secrets = listed
    return {
        **{name: str(value) for name, value in settings.items()},
        "TAP_NOSTO_SEGMENTS_EXPORT_TOKEN": secrets["export_token"],
        "TARGET_DOTDIGITAL_API_USER": secrets["api_user"],
        "TARGET_DOTDIGITAL_API_PASSWORD": secrets["api_password"],
        "TARGET_DOTDIGITAL_LEDGER_URL": secrets["ledger_url"],
        "SUFFIX": tenant.name,
    }


def _compare_discovery(table: Table, project: Path, given: Mapping[str, str], accounts: int) -> None:
    """Measure the same day of one account again, with discovery and with a catalogue that is stored once."""
    environment = {**neutral_environment(), **given, "TARGET_DOTDIGITAL_REPORT_DIR": str(project / "reports")}
    environment["TAP_NOSTO_SEGMENTS_SNAPSHOT_URI"] = f"{given['NOSTO_DOTDIGITAL_SNAPSHOTS']}/{given['SUFFIX']}"
    catalogue = subprocess.run([BIN / TAP, "--discover"], capture_output=True, check=True).stdout
    (project / "catalog.json").write_bytes(catalogue)

    def day(**more: str) -> Measure:
        command = [BIN / "meltano", "run", f"--state-id-suffix={given['SUFFIX']}", TAP, TARGET]
        return measure(command, cwd=project, environment={**environment, **more})

    pairs = [(day(), day(TAP_NOSTO_SEGMENTS__CATALOG="catalog.json")) for _ in range(table.runs)]
    discovered, stored = ([pair[side].busy for pair in pairs] for side in (0, 1))
    saved = statistics.median(discovered) - statistics.median(stored)
    table.note(
        "`meltano run` of one account, nothing changed, with Meltano's discovery against a stored catalogue",
        f"processor {spread(discovered)} against {spread(stored)}",
        f"{saved:.1f} s saved; {saved * accounts / 60:.1f} minutes of one core in {accounts} accounts",
        LIMIT,
    )


def _meltano(project: Path, given: Mapping[str, str], *arguments: str) -> None:
    """Call Meltano once, so that its database exists before two runs start at once."""
    command = [str(BIN / "meltano"), *arguments]
    done = subprocess.run(command, cwd=project, env={**neutral_environment(), **given}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
