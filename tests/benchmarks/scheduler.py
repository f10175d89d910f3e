"""Apache Airflow as it runs in production: API server, processor of DAGs and scheduler, each a process, with the example's DAG."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Any

import requests
import yaml
from measuring import BIN, HERE
from support.others import other
from through_meltano import neutral_environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from many_shops import Tenant

DAG = "nosto_dotdigital"
EXAMPLE = HERE.parents[1] / "examples" / "airflow"
PARALLEL = 2
START_SECONDS = 120
END_SECONDS = 20
# cluster policies: the example waits 20 minutes before each of its retries, and Airflow starts the last run that was due by itself
POLICY = """\
import datetime

from airflow.timetables.simple import NullTimetable


def task_policy(task):
    task.retry_delay = datetime.timedelta(seconds=1)


def dag_policy(dag):
    dag.timetable = NullTimetable()
"""
# around the real command: `times` prints the processor time of the shell, and of all that it started
MELTANO = """\
#!/bin/sh
started=$(date +%s.%N)
{meltano} "$@"
code=$?
{{ echo "$started $(date +%s.%N) $code"; times; }} > "{runs}/$AIRFLOW_CTX_DAG_RUN_ID.$AIRFLOW_CTX_TASK_ID.$AIRFLOW_CTX_TRY_NUMBER"
exit $code
"""


class Airflow:
    """A scheduler for some accounts.

    Args:
        home: its folder.
        project: the Meltano project.
        given: environment variables that the workers need.
    """

    def __init__(self, home: Path, project: Path, given: Mapping[str, str]) -> None:
        """Choose a port and write the commands that the workers find."""
        self.home, self.runs = home, home / "runs"
        self.busy = 0.0
        shutil.copytree(EXAMPLE, home / "dags")
        for name in ("runs", "bin", "config"):
            (home / name).mkdir()
        (home / "config" / "airflow_local_settings.py").write_text(POLICY)
        command = home / "bin" / "meltano"
        command.write_text(MELTANO.format(meltano=BIN / "meltano", runs=self.runs))
        command.chmod(0o755)
        self._url = f"http://127.0.0.1:{_free_port()}"
        self._environment = {
            **neutral_environment(),
            "PATH": f"{home / 'bin'}:{BIN}:{os.environ['PATH']}",
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": str(PARALLEL),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self._url}/execution/",
            "AIRFLOW__API__BASE_URL": self._url,
            "AIRFLOW__API_AUTH__JWT_SECRET": "a secret for the benchmark alone, as long as Airflow wants it",
            "NOSTO_DOTDIGITAL_PROJECT": str(project),
            "NOSTO_DOTDIGITAL_REPORTS": str(home / "reports"),
            **given,
        }
        self._session = requests.Session()

    def accounts(self, accounts: list[tuple[Tenant, dict[str, Any], dict[str, str]]]) -> None:
        """Write the example's list of accounts, with settings and secrets, and a pool for each, as its README says."""
        listed = [{"name": tenant.name, "settings": settings} for tenant, settings, _ in accounts]
        (self.home / "dags" / "accounts.yml").write_text(yaml.safe_dump(listed))
        pools = {
            f"dotdigital_{tenant.name}": {"slots": 1, "description": "one run at a time", "include_deferred": False}
            for tenant, _, _ in accounts
        }
        (self.home / "pools.json").write_text(json.dumps(pools))
        variables = {f"nosto_dotdigital_{tenant.name}": json.dumps(secrets) for tenant, _, secrets in accounts}
        (self.home / "variables.json").write_text(json.dumps(variables))
        self._call("db", "migrate")
        self._call("pools", "import", self.home / "pools.json")
        self._call("variables", "import", self.home / "variables.json")

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Start Airflow, wait until it knows the DAG, and stop it afterwards; `busy` then has the processor seconds of its processes."""
        port = self._url.rpartition(":")[2]
        started: list[subprocess.Popen[bytes]] = []
        try:
            for words in (
                ["api-server", "--host", "127.0.0.1", "--port", port, "--workers", "1"],
                ["dag-processor"],
                ["scheduler"],
            ):
                with (self.home / f"{words[0]}.log").open("wb") as log:
                    command = [str(other("airflow")), *words]
                    # a session of its own, so that what it leaves behind can be stopped with it
                    process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log, start_new_session=True)
                started.append(process)
            self._wait_for_dag()
            yield
        finally:
            for process in reversed(started):
                self.busy += _stop(process)
            self._session.close()

    def run(self, name: str, seconds: float) -> dict[str, tuple[str, int]]:
        """Run the DAG once; return task -> state and number of tries.

        Args:
            name: of the run.
            seconds: how long it may take.

        Raises:
            TimeoutError: it has not ended by then.
        """
        made = self._session.post(f"{self._runs}", json={"dag_run_id": name, "logical_date": None}, timeout=30)
        made.raise_for_status()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            state = self._get(f"{self._runs}/{name}")["state"]
            if state in {"success", "failed"}:
                return self._tasks(name)
            time.sleep(0.5)
        msg = f"the run of the DAG has not ended after {seconds:.0f} s"
        raise TimeoutError(msg)

    def change_variable(self, tenant: Tenant, secrets: Mapping[str, str]) -> None:
        """Change the secrets of an account."""
        name = f"nosto_dotdigital_{tenant.name}"
        changed = self._session.patch(
            f"{self._url}/api/v2/variables/{name}", json={"key": name, "value": json.dumps(secrets)}, timeout=30
        )
        changed.raise_for_status()

    @property
    def _runs(self) -> str:
        return f"{self._url}/api/v2/dags/{DAG}/dagRuns"

    def _tasks(self, name: str) -> dict[str, tuple[str, int]]:
        found: dict[str, tuple[str, int]] = {}
        while True:
            page = self._get(f"{self._runs}/{name}/taskInstances?limit=100&offset={len(found)}")
            found |= {one["task_id"]: (one["state"], one["try_number"]) for one in page["task_instances"]}
            if not page["task_instances"] or len(found) >= page["total_entries"]:
                return found

    def _get(self, url: str) -> dict[str, Any]:
        answer = self._session.get(url, timeout=30)
        answer.raise_for_status()
        facts: dict[str, Any] = answer.json()
        return facts

    def _wait_for_dag(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(requests.RequestException, KeyError):
                if "Authorization" not in self._session.headers:
                    token = self._get(f"{self._url}/auth/token")["access_token"]
                    self._session.headers["Authorization"] = f"Bearer {token}"
                if not self._get(f"{self._url}/api/v2/dags/{DAG}")["is_paused"]:
                    return
            time.sleep(0.5)
        logs = {path.name: path.read_text(errors="replace")[-1500:] for path in sorted(self.home.glob("*.log"))}
        msg = f"Airflow does not know the DAG after {START_SECONDS} s: {logs}"
        raise TimeoutError(msg)

    def _call(self, *arguments: object) -> None:
        command = [str(other("airflow")), *map(str, arguments)]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def _stop(process: subprocess.Popen[bytes]) -> float:
    """Stop a process and what it started, and return the processor seconds of all that it waited for."""
    process.terminate()
    deadline = time.monotonic() + END_SECONDS
    usage = None
    while usage is None:
        pid, status, spent = os.wait4(process.pid, os.WNOHANG)
        if pid:
            usage, process.returncode = spent, os.waitstatus_to_exitcode(status)
        elif time.monotonic() > deadline:
            process.kill()
            deadline += END_SECONDS
        else:
            time.sleep(0.1)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return usage.ru_utime + usage.ru_stime


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
