"""The examples for engines that start the pipeline: many accounts under Airflow, one under Kubernetes."""

from __future__ import annotations

import datetime
import json
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from nosto_dotdigital_sandbox import ExportFile, Sandbox, Shop
from support.meltano import ROOT, Project, publish, shell, text_of_files, without_settings
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


class Image:
    """The image of the Dockerfile, without a container engine: its steps run in a folder, which stands for /project.

    Args:
        folder: an empty folder.
        context: the folder that is built.
    """

    def __init__(self, folder: Path, context: Path) -> None:
        """Run the steps of the build."""
        self.folder = folder
        self.environment = without_settings(PATH=f"{BIN}:{os.environ['PATH']}")
        text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
        steps = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
        assert re.fullmatch(r"meltano/meltano:v4\.\d+\.\d+-python3\.\d+-slim", dict(steps)["FROM"]), (
            "a version of Meltano's own image"
        )
        for keyword, argument in steps:
            match keyword:
                case "COPY":
                    assert argument == ". ."
                    copy_allowed(context, folder)
                case "RUN":
                    # the owner is another one only if root runs this, which a test does not need
                    done = shell(argument.replace("10001:10001", f"{os.getuid()}:{os.getgid()}"), folder, self.environment)
                    assert done.returncode == 0, done.stdout[-4000:]
                case "ENV":
                    self.environment |= dict(part.split("=", 1) for part in self._here(argument).split())
                case "USER":
                    self.user = argument
                case "ENTRYPOINT":
                    self.entrypoint = [self._here(part) for part in json.loads(argument)]
                case "CMD":
                    self.command = json.loads(argument)
        assert self.user == "10001:10001"
        for path in (folder, *folder.rglob("*")):
            if not path.is_symlink() and path != folder / "var":
                path.chmod(path.stat().st_mode & ~0o222)

    def _here(self, text: str) -> str:
        return text.replace("/project", str(self.folder))

    def run(self, settings: dict[str, str], arguments: list[str] | None = None) -> subprocess.CompletedProcess[str]:
        """Start a container; it can write where the permissions let it, even if root runs this."""
        unprivileged = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
        return subprocess.run(
            [*unprivileged, *self.entrypoint, *(self.command if arguments is None else arguments)],
            cwd=self.folder,
            env=self.environment | settings,
            capture_output=True,
            text=True,
            check=False,
        )

    def remove(self) -> None:
        """Let the folder be removed."""
        for path in (self.folder, *self.folder.rglob("*")):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o700)


def copy_allowed(context: Path, folder: Path) -> None:
    """Copy what `.dockerignore` lets in: nothing but the exceptions at the top of the folder, without the patterns below them."""
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert patterns[0] == "*"
    ignored = [pattern.removeprefix("**/") for pattern in patterns[1:] if not pattern.startswith("!")]
    for name in (pattern.removeprefix("!") for pattern in patterns if pattern.startswith("!")):
        source = context / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns(*ignored))
        elif source.exists():
            shutil.copy(source, folder / name)


@pytest.mark.slow
@pytest.mark.parametrize("context", ["own project", pytest.param("this repository", marks=pytest.mark.long)])
def test_the_image_runs_where_only_var_can_be_written(context: str, tmp_path: Path) -> None:
    repository, built, folder = tmp_path / "nosto-dotdigital.git", tmp_path / "built", tmp_path / "image"
    for path in (repository, folder):
        path.mkdir()
    publish(repository, {"v0.1.0": text_of_files()})
    shutil.copytree(repository / "examples" / "project" if context == "own project" else repository, built)
    # what must not get into an image
    for name in (".env", "var/prod/ledger.db", "plugins/__pycache__/x.pyc"):
        (built / name).parent.mkdir(parents=True, exist_ok=True)
        (built / name).write_text("secret")
    image = Image(folder, built)
    try:
        run_image(image)
    finally:
        image.remove()


def run_image(image: Image) -> None:
    """Run a review and a delivery, and look at what was written where."""
    folder = image.folder
    assert not any(path.read_bytes() == b"secret" for path in folder.rglob("*") if path.is_file())
    before = files_outside_var(folder)
    with Sandbox() as sandbox:
        body = Shop(60).export(0)
        sandbox.nosto.export = ExportFile(body, datetime.datetime.now(datetime.UTC).replace(microsecond=0))
        settings = {
            "TAP_NOSTO_SEGMENTS_EXPORT_URL": sandbox.export_url,
            "TAP_NOSTO_SEGMENTS_EXPORT_TOKEN": sandbox.nosto.token,
            "TARGET_DOTDIGITAL_API_URL": sandbox.api_url,
            "TARGET_DOTDIGITAL_API_USER": sandbox.user,
            "TARGET_DOTDIGITAL_API_PASSWORD": sandbox.password,
            # as in the manifest, before it is known
            "TARGET_DOTDIGITAL_ACTIVATION_CODE": "",
        }
        (container,) = pod_of(manifest("cronjob.yaml"))["containers"]
        reviewed = image.run(settings, container["args"])
        assert reviewed.returncode == 1, reviewed.stderr[-4000:]
        report = folder / "var" / "prod" / "reports" / "report.json"
        facts = json.loads(report.read_text())
        assert facts["outcome"] == "not activated"
        lines = [json.loads(line) for line in reviewed.stderr.splitlines()]
        said = "\n".join(str(line["event"]) for line in lines if line.get("plugin_logger") == "target-dotdigital")
        assert f"activation_code: {facts['activation_code']}" in said, "the page's command shows the review"
        settings["TARGET_DOTDIGITAL_ACTIVATION_CODE"] = facts["activation_code"]
        for outcome in ("delivered", "nothing to do"):
            ended = image.run(settings)
            assert ended.returncode == 0, ended.stderr[-4000:]
            assert json.loads(report.read_text())["outcome"] == outcome, "state and ledger outlast the container"
        assert_account(sandbox, expected(body))
        assert_allowed(sandbox)
    assert files_outside_var(folder) == before
    assert {path.name for path in (folder / "var").iterdir()} == {"meltano", "prod", "tmp"}


def files_outside_var(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if "var" not in path.relative_to(folder).parts[:1]}


def manifest(name: str) -> dict[str, Any]:
    facts: dict[str, Any] = yaml.safe_load((EXAMPLES / "kubernetes" / name).read_text())
    return facts


def pod_of(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the pod of a manifest."""
    spec: dict[str, Any] = facts["spec"]
    return spec["jobTemplate"]["spec"]["template"]["spec"] if facts["kind"] == "CronJob" else spec


@pytest.mark.parametrize("name", ["cronjob.yaml", "shell.yaml"])
def test_a_container_has_no_rights_but_to_its_volume(name: str) -> None:
    pod = pod_of(manifest(name))
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert {pod["securityContext"][key] for key in ("runAsUser", "runAsGroup", "fsGroup")} == {10001}
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    assert mounts == {"var": "/project/var", "scratch": "/project/var/tmp"}
    volumes = {one["name"]: one for one in pod["volumes"]}
    assert set(volumes) == set(mounts)
    claim = manifest("volume.yaml")
    assert (claim["kind"], claim["spec"]["accessModes"]) == ("PersistentVolumeClaim", ["ReadWriteOnce"])
    assert volumes["var"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


def test_the_manifest_starts_what_is_there() -> None:
    facts = manifest("cronjob.yaml")
    assert (facts["kind"], facts["spec"]["concurrencyPolicy"]) == ("CronJob", "Forbid")
    (container,) = pod_of(facts)["containers"]
    project = yaml.safe_load((ROOT / "meltano.yml").read_text())
    plugins = {one["name"]: one for kind in ("extractors", "loaders") for one in project["plugins"][kind]}
    assert container["args"][1:] == ["run", *plugins]
    known = {f"{name}_{one['name']}".upper().replace("-", "_") for name, facts in plugins.items() for one in facts["settings"]}
    assert {one["name"] for one in container["env"]} <= known
    (shell_container,) = pod_of(manifest("shell.yaml"))["containers"]
    assert (shell_container["image"], shell_container["envFrom"]) == (container["image"], container["envFrom"])
