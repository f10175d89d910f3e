"""The documentation: its commands are run in an empty folder, and what it names exists."""

from __future__ import annotations

import datetime
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
import yaml
from nosto_dotdigital_sandbox import ExportFile, Sandbox, Shop
from support.meltano import REPOSITORY, ROOT, Project, shell, text_of_files, without_settings
from support.meltano import publish as publish_files
from support.oracle import assert_account, expected
from support.running import BIN, Pipeline

if TYPE_CHECKING:
    from collections.abc import Mapping

LEDGERS = ["postgresql"]
DOCS = ROOT / "docs"
PLUGINS = ["tap-nosto-segments", "target-dotdigital"]
FENCE = re.compile(r"^```(?P<language>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
WAYS = ["from git", "from the clone", "from wheels"]
EXISTING = "in an existing project"
# a setting that the older version of the upgrade does not have
NEW_SETTING = "report_keep"
RUN = "meltano run tap-nosto-segments target-dotdigital\n"


def blocks(page: str, language: str) -> list[tuple[str | None, str]]:
    """Return the title and the text of each block in a language."""
    return [(block["title"], block["text"]) for block in FENCE.finditer((DOCS / page).read_text()) if block["language"] == language]


def commands(page: str, *ways: str) -> str:
    """Return a page's commands in their order, for one choice of its alternatives."""
    chosen: list[str] = []
    for title, text in blocks(page, "sh"):
        if title is None:
            chosen.append(text)
        elif title.removeprefix("instead: ") in ways:
            # an alternative stands behind the block that it replaces, or behind another alternative
            chosen[-1] = text
    return "".join(chosen)


def fill(script: str, values: Mapping[str, str]) -> str:
    """Fill in the placeholders of a page, as a reader does."""
    for placeholder, value in values.items():
        assert script.count(placeholder) == 1, f"{placeholder!r} has to be filled in at one place"
        script = script.replace(placeholder, value)
    return script


def version_in(page: str) -> str:
    (found,) = re.findall(r"^VERSION=(.+)$", (DOCS / page).read_text(), re.MULTILINE)
    return str(found)


def publish(folder: Path) -> str:
    """Publish two versions of this checkout: one without a setting and of today's version, and a later one; return their address."""
    later = text_of_files()
    lock = "examples/project/plugins/loaders/target-dotdigital--nosto-dotdigital.lock"
    definition = json.loads(later[lock])
    definition["settings"] = [setting for setting in definition["settings"] if setting["name"] != NEW_SETTING]
    older = {**later, lock: json.dumps(definition)}
    today, new = (version_in(page).removeprefix("v") for page in ("own-project.md", "upgrade.md"))
    for plugin in PLUGINS:
        name = f"{plugin}/pyproject.toml"
        later[name] = later[name].replace(f'version = "{today}"', f'version = "{new}"')
    later["examples/project/meltano.yml"] = later["examples/project/meltano.yml"].replace(f"@v{today}#", f"@v{new}#")
    return publish_files(folder, {f"v{today}": older, f"v{new}": later})


class Machine:
    """A machine with Python, git and a package index, but without this project's own environment.

    Args:
        folder: where everything is kept.
        sandbox: both services.
    """

    def __init__(self, folder: Path, sandbox: Sandbox) -> None:
        """Publish the repository, and install Python."""
        self.folder = folder
        home, repository = folder / "home", folder / "nosto-dotdigital.git"
        (home / "bin").mkdir(parents=True)
        repository.mkdir()
        (home / "bin" / "python3").symlink_to(Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}")
        path = os.pathsep.join(part for part in os.environ["PATH"].split(os.pathsep) if part != str(BIN))
        self.environment = without_settings(
            PATH=f"{home / 'bin'}{os.pathsep}{path}",
            NO_COLOR="1",
        )
        self.url = publish(repository)
        self.values = {
            REPOSITORY: self.url,
            "https://the-address-that-nosto-shows.example.com/export": sandbox.export_url,
            "the-integration-token": sandbox.nosto.token,
            "apiuser-0123456789ab@apiconnector.example.com": sandbox.user,
            "the-password": f"{sandbox.password}\nTARGET_DOTDIGITAL_API_URL={sandbox.api_url}",
        }

    def run(self, script: str, folder: Path, code: int = 0) -> str:
        """Run a script in a shell; return what it printed."""
        done = shell(script, folder, self.environment)
        assert done.returncode == code, done.stdout[-6000:]
        return done.stdout


def put(sandbox: Sandbox, shop: Shop, day: int) -> dict[str, list[str]]:
    """Put a day's export at Nosto; return what the account should hold."""
    body = shop.export(day)
    made = datetime.datetime.now(datetime.UTC).replace(microsecond=0) + datetime.timedelta(minutes=day)
    sandbox.nosto.export = ExportFile(body, made)
    return expected(body, exclude=["geo-area *"])


def facts_of(project: Path, environment: str = "prod") -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((project / "var" / environment / "reports" / "report.json").read_text())
    return facts


@pytest.mark.slow
@pytest.mark.parametrize("way", [way if way == "from git" else pytest.param(way, marks=pytest.mark.long) for way in WAYS])
def test_the_commands_work_from_an_empty_folder(way: str, sandbox: Sandbox, tmp_path: Path) -> None:
    machine, shop = Machine(tmp_path, sandbox), Shop(400)
    wanted = put(sandbox, shop, 0)
    script = fill(commands("own-project.md", way), machine.values)
    until_review, activation, after_review = script.partition("meltano config set target-dotdigital activation_code CODE\n")
    assert until_review.endswith("\n" + RUN)
    said = machine.run(until_review, tmp_path, code=1)
    project = tmp_path / "segments"
    assert "Not activated: nothing was written." in said, said[-6000:]
    assert "the stream is skipped" not in said, "only contact_segments is selected"
    assert not sandbox.journal.writes(), "the first run only shows what it would do"
    facts = facts_of(project)
    assert facts["outcome"] == "not activated"
    assert (project / "var" / "prod" / "reports" / "report.html").is_file()
    assert len((project / "meltano.yml").read_text().splitlines()) < 40, "the definitions are not in the file that people edit"
    kept = kept_in_git(project)
    assert {"meltano.yml", "plugins"} <= kept
    assert not kept & {"var", ".env", ".venv", ".meltano", "nosto-dotdigital", "wheels"}, "no address and no secret gets into git"
    if way != "from git":
        # what follows does not depend on how the plugins were installed
        return

    activate = ". .venv/bin/activate\n"
    machine.run(activate + activation.replace("CODE", facts["activation_code"]) + after_review, project)
    assert facts_of(project)["outcome"] == "delivered"
    assert_account(sandbox, wanted)
    check_cron(project)
    check_upgrade(machine, project, sandbox, shop)
    check_leaving(machine, project, sandbox)


def kept_in_git(project: Path) -> set[str]:
    """Return the names of the files and folders in a project that git would keep."""
    subprocess.run(["git", "init", "--quiet"], cwd=project, check=True)
    listed = subprocess.run(
        ["git", "ls-files", "--others", "--exclude-standard"], cwd=project, check=True, capture_output=True, text=True
    )
    return {Path(name).parts[0] for name in listed.stdout.splitlines()}


def check_cron(project: Path) -> None:
    """Run the page's line as cron does: with a bare environment, by /bin/sh."""
    ((_, line),) = blocks("own-project.md", "cron")
    command = line.split(maxsplit=5)[5].replace("/srv/segments", str(project))
    bare = {"HOME": str(Path.home()), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["/bin/sh", "-c", command], cwd="/", env=bare, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert facts_of(project)["outcome"] == "nothing to do"


def check_upgrade(machine: Machine, project: Path, sandbox: Sandbox, shop: Shop) -> None:
    """Upgrade to a version with a new setting, which is set before."""
    runs = project / "var" / "prod" / "reports" / "runs"
    assert len(list(runs.glob("*.json"))) > 1
    with (project / ".env").open("a") as file:
        file.write(f"TARGET_DOTDIGITAL_{NEW_SETTING.upper()}=1\n")
    activate, before = ". .venv/bin/activate\n", (project / "meltano.yml").read_text()
    machine.run(activate + RUN, project)
    assert len(list(runs.glob("*.json"))) > 1, "the older definition does not have the setting"
    wanted = put(sandbox, shop, 1)
    said = machine.run(activate + fill(commands("upgrade.md"), {REPOSITORY: machine.url}), project)
    assert facts_of(project)["outcome"] == "delivered", said[-6000:]
    gone = [email for email in expected(shop.export(0)) if email not in wanted]
    assert_account(sandbox, wanted, gone=gone)
    assert len(list(runs.glob("*.json"))) == 1, "the new setting is in force"
    version = version_in("upgrade.md")
    assert (project / "meltano.yml").read_text() == before.replace(version_in("own-project.md"), version), "nothing else changed"
    installed = machine.run(".meltano/loaders/target-dotdigital/venv/bin/target-dotdigital --version", project)
    assert version.removeprefix("v") in installed


def check_leaving(machine: Machine, project: Path, sandbox: Sandbox) -> None:
    """Leave: every contact stays, without labels, and nothing stays on the machine."""
    before = {email: contact.lists for email, contact in sandbox.account.snapshot().items()}
    until_stored, first, rest = commands("leaving.md").partition("meltano state clear")
    activate = ". .venv/bin/activate\n"
    machine.run(activate + until_stored, project)
    assert facts_of(project)["outcome"] == "delivered"
    after = sandbox.account.snapshot()
    assert {email: contact.lists for email, contact in after.items()} == before
    assert not [email for email, contact in after.items() if contact.data_fields.get("NOSTOSEGMENT")]
    machine.run(activate + first + rest, project)
    assert "prod:" not in machine.run(activate + "meltano state list", project)
    left = {path.relative_to(project).parts[0] for path in project.rglob("*") if path.is_file()}
    assert left <= {".env", ".git", ".gitignore", ".meltano", ".venv", "meltano.yml"}
    assert not (project / "var" / "prod").exists()
    assert (project / ".env").read_text() == ""
    assert not any(plugin in (project / "meltano.yml").read_text() for plugin in PLUGINS)
    assert not [path for plugin in PLUGINS for path in (project / ".meltano").rglob(f"*/venv/bin/{plugin}")]


@pytest.mark.slow
def test_the_commands_work_in_a_project_that_is_there(sandbox: Sandbox, tmp_path: Path) -> None:
    machine = Machine(tmp_path, sandbox)
    put(sandbox, Shop(100), 0)
    # Meltano of this project, which a reader has
    machine.environment["PATH"] = f"{BIN}{os.pathsep}{machine.environment['PATH']}"
    machine.run("meltano init existing --no-usage-stats", tmp_path)
    project = tmp_path / "existing"
    before = yaml.safe_load((project / "meltano.yml").read_text())
    assert before["default_environment"] == "dev"
    script = fill(commands("own-project.md", EXISTING), machine.values)
    head, install, tail = script.partition("meltano install\n")
    until_review, _, _ = tail.partition("meltano config set target-dotdigital activation_code")
    machine.run(head, project)
    ours = yaml.safe_load((project / "nosto-dotdigital" / "examples" / "project" / "meltano.yml").read_text())["plugins"]
    (project / "meltano.yml").write_text(yaml.safe_dump({**before, "plugins": ours}, sort_keys=False))
    said = machine.run(install + until_review, project, code=1)
    assert facts_of(project, "dev")["outcome"] == "not activated", said[-6000:]
    after = yaml.safe_load((project / "meltano.yml").read_text())
    assert {**after, "plugins": None} == {**before, "plugins": None}
    assert not kept_in_git(project) & {"var", ".env", ".meltano", "nosto-dotdigital"}


@pytest.mark.slow
def test_the_tutorial_by_hand(sandbox: Sandbox, tmp_path: Path) -> None:
    # a checkout with its environment; the sandbox is the one that the tutorial starts
    Project(tmp_path, sandbox)
    (tmp_path / ".venv").symlink_to(BIN.parent)
    ((_, first), *second) = blocks("tutorial.md", "sh")
    assert [title for title, _ in second] == ["second shell"] * 3
    prepare, activation, next_day = (text.removesuffix(RUN) for _, text in second)
    served = subprocess.Popen(
        ["bash", "-c", first],
        cwd=tmp_path,
        env=without_settings(),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert served.stdout is not None
    try:
        while "Ctrl-C" not in served.stdout.readline():
            assert served.poll() is None
        # tee prints first, and writes then
        while "Ctrl-C" not in (tmp_path / "var" / "sandbox" / "variables").read_text():
            assert served.poll() is None
        facts: dict[str, Any] = {}
        for steps, code, outcome in (("", 1, "not activated"), (activation, 0, "delivered"), (next_day, 0, "delivered")):
            prepare += steps.replace("=CODE", f"={facts.get('activation_code')}")
            done = shell(prepare + RUN, tmp_path, without_settings())
            assert done.returncode == code, done.stdout[-6000:]
            facts = facts_of(tmp_path, "sandbox")
            assert facts["outcome"] == outcome
        assert 0 < facts["sent"] < 100, "the second day carries over only what changed"
    finally:
        os.killpg(served.pid, signal.SIGTERM)
        served.communicate(timeout=20)


def test_a_ledger_in_postgresql_can_be_removed(sandbox: Sandbox, tmp_path: Path, ledger_url: str) -> None:
    pipeline = Pipeline(sandbox, tmp_path, target={"ledger_url": ledger_url})
    pipeline.activate()
    pipeline.export(Shop(50).export(0))
    assert pipeline.run().code == 0
    titled = dict(blocks("leaving.md", "sql"))
    engine = sa.create_engine(ledger_url)
    tables = sa.text("SELECT tablename FROM pg_tables WHERE tablename LIKE 'dotdigital%'")
    with engine.begin() as connection:
        # the reader's own tables, which stay
        connection.execute(sa.text("CREATE TABLE dotdigitalis (id int)"))
        own_account = titled["one account"].replace("101", str(sandbox.account.id))
        connection.exec_driver_sql(own_account)
        names = connection.execute(tables).scalars().all()
        # the number of the layout belongs to all accounts
        accounts = set(names) - {"dotdigital_layout"}
        rows = {name: connection.execute(sa.select(sa.func.count()).select_from(sa.table(name))).scalar() for name in accounts}
        assert len(rows) > 6
        assert not any(rows.values()), rows
    with engine.begin() as connection:
        connection.exec_driver_sql(titled[None].replace("%", "%%"))
        assert connection.execute(tables).scalars().all() == ["dotdigitalis"]
        connection.execute(sa.text("DROP TABLE dotdigitalis"))
    engine.dispose()


def test_every_cron_line_finds_meltano() -> None:
    lines = [
        line
        for path in [*DOCS.rglob("*.md"), ROOT / "README.md"]
        for line in path.read_text().splitlines()
        if re.match(r"^\S+ \S+ \* \* \*  ", line)
    ]
    assert len(lines) >= 2
    for line in lines:
        assert re.search(r"cd \S+ && \. \.venv/bin/activate && .*meltano run ", line), f"cron has no virtual environment: {line}"


def test_what_people_copy_has_the_version_of_this_checkout() -> None:
    versions = {tomllib.loads((ROOT / plugin / "pyproject.toml").read_text())["project"]["version"] for plugin in PLUGINS}
    assert {f"v{version}" for version in versions} == {version_in("own-project.md")}
    project = yaml.safe_load((ROOT / "examples" / "project" / "meltano.yml").read_text())["plugins"]
    urls = {plugin["name"]: plugin["pip_url"] for plugins in project.values() for plugin in plugins}
    assert urls == {name: f"git+{REPOSITORY}@{version_in('own-project.md')}#subdirectory={name}" for name in PLUGINS}
    images = {
        image
        for path in [*(ROOT / "examples" / "kubernetes").iterdir(), DOCS / "kubernetes.md"]
        for image in re.findall(r"registry\.example\.com/nosto-dotdigital:(\S+)", path.read_text())
    }
    assert images == versions


def test_every_page_is_in_the_navigation_and_every_picture_exists() -> None:
    entries: list[Any] = [yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]]
    named = set()
    while entries:
        match entries.pop():
            case str(name):
                named.add(name)
            case dict(section):
                entries += section.values()
            case list(section):
                entries += section
    pages = {str(path.relative_to(DOCS)): path.read_text() for path in DOCS.rglob("*.md")}
    assert named == set(pages)
    for path in [DOCS.parent / "README.md", *map(DOCS.joinpath, pages)]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)[^)]*\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_commands_through_meltano_exist() -> None:
    project = yaml.safe_load((ROOT / "meltano.yml").read_text())["plugins"]
    known = {
        f"{plugin['name']}:{command}"
        for kind in ("extractors", "loaders")
        for plugin in project[kind]
        for command in plugin.get("commands", ())
    }
    texts = [
        path.read_text() for path in [ROOT / "README.md", *DOCS.rglob("*.md"), *(ROOT / plugin / "README.md" for plugin in PLUGINS)]
    ]
    used = {
        command for text in texts for command in re.findall(r"(?:tap-nosto-segments|target-dotdigital):[a-z]+(?:-[a-z]+)*", text)
    }
    assert used
    assert used <= known


def test_readme_is_for_the_first_five_minutes() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200
