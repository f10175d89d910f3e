"""The examples for engines that start the pipeline: many accounts under Airflow, one under Kubernetes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from nosto_dotdigital_sandbox import ExportFile, Sandbox, Shop
from support.meltano import ROOT, Project
from support.oracle import assert_account, expected
from support.others import other
from support.running import BIN, START, Pipeline
from support.storage import keys, object_storage
from support.wire import assert_allowed

if TYPE_CHECKING:
    from pathlib import Path

LEDGERS = ["postgresql"]
EXAMPLES = ROOT / "examples"
# in the process of the example, as a developer of DAGs runs one
RUN = """
import json, sys
from nosto_dotdigital import dag
states = {one.task_id: str(one.state) for one in dag.test().get_task_instances()}
pools = {task.task_id: (task.pool, task.retries) for task in dag.tasks}
print(json.dumps([states, pools, dag.max_active_runs]))
"""


def airflow(environment: dict[str, str], *arguments: object) -> str:
    done = subprocess.run([str(one) for one in arguments], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_many_accounts_under_airflow(tmp_path: Path, ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with object_storage(monkeypatch) as snapshots:
        run_two_accounts(tmp_path, ledger_url, snapshots)
        assert sorted({key.partition("/")[0] for key in keys(snapshots)}) == ["shop_0", "shop_1"]


def run_two_accounts(tmp_path: Path, ledger_url: str, snapshots: str) -> None:
    home, state = tmp_path / "airflow", tmp_path / "state"
    state.mkdir()
    shutil.copytree(EXAMPLES / "airflow", home)
    (tmp_path / "project").mkdir()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("TAP_", "TARGET_", "MELTANO_", "AIRFLOW"))},
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "PYTHONPATH": str(home),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(home),
        "MELTANO_ENVIRONMENT": "sandbox",
        "MELTANO_STATE_BACKEND_URI": f"file://{state}",
        "NOSTO_DOTDIGITAL_PROJECT": str(tmp_path / "project"),
        "NOSTO_DOTDIGITAL_SNAPSHOTS": snapshots,
        "NOSTO_DOTDIGITAL_REPORTS": str(tmp_path / "reports"),
    }
    with Sandbox() as first, Sandbox() as second:
        accounts, wanted = [], []
        for number, sandbox in enumerate((first, second)):
            sandbox.account.id += number
            name = f"shop_{number}"
            code = Pipeline(sandbox, tmp_path / name).activate("contact_segments")
            body = Shop(60 + number).export(0)
            sandbox.nosto.export = ExportFile(body, START)
            wanted.append(expected(body))
            secrets = {
                "export_token": sandbox.nosto.token,
                "api_user": sandbox.user,
                "api_password": sandbox.password,
                "ledger_url": ledger_url,
            }
            environment[f"AIRFLOW_VAR_NOSTO_DOTDIGITAL_{name.upper()}"] = json.dumps(secrets)
            settings: dict[str, Any] = {
                "TAP_NOSTO_SEGMENTS_EXPORT_URL": sandbox.export_url,
                "TAP_NOSTO_SEGMENTS_EXCLUDE_SEGMENTS": "[]",
                "TAP_NOSTO_SEGMENTS_MAX_EXPORT_AGE_HOURS": 0,
                "TARGET_DOTDIGITAL_API_URL": sandbox.api_url,
                "TARGET_DOTDIGITAL_ACTIVATION_CODE": code,
            }
            accounts.append({"name": name, "settings": settings})
        Project(tmp_path / "project", first)
        (home / "accounts.yml").write_text(yaml.safe_dump(accounts))
        airflow(environment, other("airflow"), "db", "migrate")
        for account in accounts:
            airflow(environment, other("airflow"), "pools", "set", f"dotdigital_{account['name']}", "1", "one run at a time")
        said = airflow(environment, other("airflow").parent / "python", "-c", RUN)
        states, tasks, most = json.loads(said.splitlines()[-1])
        assert states == {"shop_0": "success", "shop_1": "success"}, said[-3000:]
        assert tasks == {"shop_0": ["dotdigital_shop_0", 3], "shop_1": ["dotdigital_shop_1", 3]}
        assert most == 1
        for sandbox, contacts in zip((first, second), wanted, strict=True):
            assert_account(sandbox, contacts)
            assert_allowed(sandbox)
            assert sandbox.password not in said
    assert len(list(state.glob("*shop_*"))) == 2, "each account has a state of its own"
    folders = tmp_path / "project" / ".meltano" / "accounts"
    assert sorted(one.name for one in folders.iterdir()) == ["shop_0", "shop_1"], (
        "each has Meltano's files of its run in its own folder"
    )


def test_the_manifest_starts_what_is_there() -> None:
    manifest = yaml.safe_load((EXAMPLES / "kubernetes" / "cronjob.yaml").read_text())
    assert (manifest["kind"], manifest["spec"]["concurrencyPolicy"]) == ("CronJob", "Forbid")
    pod = manifest["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    project = yaml.safe_load((ROOT / "meltano.yml").read_text())
    plugins = {one["name"]: one for kind in ("extractors", "loaders") for one in project["plugins"][kind]}
    assert container["image"].startswith("meltano/meltano:v4."), (
        "an image that exists, and that installs the plugins when it starts"
    )
    *first, run = [line.split() for line in container["args"][0].splitlines()]
    assert ["meltano", "install"] in first
    assert set(run[-2:]) == set(plugins)
    known = {f"{name}_{one['name']}".upper().replace("-", "_") for name, facts in plugins.items() for one in facts["settings"]}
    used = {one["name"] for one in container["env"]}
    assert {name for name in used if not name.startswith("MELTANO_")} <= known
    mounted = {one["name"] for one in container["volumeMounts"]}
    assert mounted == {one["name"] for one in pod["volumes"]}
