"""The documentation: its commands are run in an empty folder, and what it names exists."""

from __future__ import annotations

import datetime
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from nosto_dotdigital_sandbox import ExportFile, Sandbox, Shop
from support.meltano import ROOT
from support.oracle import assert_account, expected

if TYPE_CHECKING:
    from collections.abc import Mapping

DOCS = ROOT / "docs"
PAGE = DOCS / "own-project.md"
PLUGINS = ["tap-nosto-segments", "target-dotdigital"]
FENCE = re.compile(r"^```sh(?: title=\"instead: (?P<instead>[^\"]+)\")?\n(?P<commands>.*?)^```$", re.DOTALL | re.MULTILINE)
REPOSITORY = "https://example.com/nosto-dotdigital.git"
WAYS = ["from git", "from the clone", "from wheels"]


def commands(way: str) -> list[str]:
    """Return the page's blocks of commands, in their order, for one of the three ways of installing."""
    blocks: list[str] = []
    for block in FENCE.finditer(PAGE.read_text()):
        if block["instead"] is None:
            blocks.append(block["commands"])
        elif block["instead"] == way:
            # an alternative stands behind the block that it replaces, or behind another alternative
            blocks[-1] = block["commands"]
    return blocks


def shell(script: str, folder: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def published(folder: Path) -> str:
    """Publish this checkout as it is, changes included, as a git repository; return its address."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        source, copy = ROOT / name, folder / name
        if source.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, copy)
    who = ["-c", "user.name=Test", "-c", "user.email=test@example.com"]
    for arguments in (["init", "--quiet"], ["add", "--all"], [*who, "commit", "--quiet", "--message=published"]):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
    return folder.as_uri()


@pytest.mark.slow
@pytest.mark.parametrize("way", [way if way == "from git" else pytest.param(way, marks=pytest.mark.long) for way in WAYS])
def test_the_commands_work_from_an_empty_folder(way: str, sandbox: Sandbox, tmp_path: Path) -> None:
    home, repository = tmp_path / "home", tmp_path / "nosto-dotdigital.git"
    (home / "bin").mkdir(parents=True)
    repository.mkdir()
    # a machine with Python, git and a package index, but without this project's own environment
    (home / "bin" / "python3").symlink_to(Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}")
    own = str(Path(sys.prefix) / "bin")
    path = os.pathsep.join(folder for folder in os.environ["PATH"].split(os.pathsep) if folder != own)
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TAP_", "TARGET_", "MELTANO_", "VIRTUAL_ENV", "PYTEST", "COVERAGE"))
    } | {"PATH": f"{home / 'bin'}{os.pathsep}{path}", "TARGET_DOTDIGITAL_API_URL": sandbox.api_url, "NO_COLOR": "1"}
    body = Shop(400).export(0)
    sandbox.nosto.export = ExportFile(body, datetime.datetime.now(datetime.UTC).replace(microsecond=0))
    substitutions = {
        REPOSITORY: published(repository),
        "https://the-address-that-nosto-shows.example.com/export": sandbox.export_url,
        "the-integration-token": sandbox.nosto.token,
        "apiuser-0123456789ab@apiconnector.example.com": sandbox.user,
        "the-password": sandbox.password,
    }
    script = "".join(commands(way))
    for placeholder, value in substitutions.items():
        assert script.count(placeholder) == 1, f"{placeholder!r} has to be filled in at one place"
        script = script.replace(placeholder, value)

    until_review, activation, after_review = script.partition("meltano config set target-dotdigital activation_code CODE\n")
    assert until_review.endswith("\nmeltano run tap-nosto-segments target-dotdigital\n")
    done = shell(until_review, tmp_path, environment)
    project = tmp_path / "segments"
    report = project / "var" / "prod" / "reports"
    assert done.returncode == 1, done.stdout[-6000:]
    assert "Not activated: nothing was written." in done.stdout, done.stdout[-6000:]
    assert "the stream is skipped" not in done.stdout, "only contact_segments is selected"
    assert not sandbox.journal.writes(), "the first run only shows what it would do"
    facts = json.loads((report / "report.json").read_text())
    assert facts["outcome"] == "not activated"
    assert (report / "report.html").is_file()
    subprocess.run(["git", "init", "--quiet"], cwd=project, check=True)
    listed = subprocess.run(
        ["git", "ls-files", "--others", "--exclude-standard"], cwd=project, check=True, capture_output=True, text=True
    )
    kept = {Path(name).parts[0] for name in listed.stdout.splitlines()}
    assert "meltano.yml" in kept
    assert not kept & {"var", ".env", ".venv", ".meltano", "nosto-dotdigital", "wheels"}, "no address and no secret gets into git"
    if way != "from git":
        # what follows does not depend on how the plugins were installed
        return

    activated = activation.replace("CODE", facts["activation_code"]) + after_review
    done = shell(f". .venv/bin/activate\n{activated}", project, environment)
    assert done.returncode == 0, done.stdout[-6000:]
    assert json.loads((report / "report.json").read_text())["outcome"] == "delivered"
    assert_account(sandbox, expected(body, exclude=["geo-area *"]))
    assert "nosto-to-dotdigital" in (project / "meltano.yml").read_text()


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
    used = {command for text in texts for command in re.findall(r"(?:tap-nosto-segments|target-dotdigital):[a-z]+", text)}
    assert used
    assert used <= known


def test_readme_is_for_the_first_five_minutes() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200
