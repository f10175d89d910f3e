"""A Meltano project as the repository's own, for tests that call the real Meltano."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from support.others import other
from support.running import BIN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nosto_dotdigital_sandbox import Sandbox

ROOT = Path(__file__).parents[2]
# the address in the documentation and in the project that people copy
REPOSITORY = "https://example.com/nosto-dotdigital.git"


def without_settings(**variables: str) -> dict[str, str]:
    """Return this process's environment without settings of the plugins and of Meltano, and with some variables of its own."""
    ours = ("TAP_", "TARGET_", "MELTANO_", "VIRTUAL_ENV", "PYTEST", "COVERAGE")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | variables


def shell(script: str, folder: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a script that stops at its first error."""
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


def text_of_files() -> dict[str, str]:
    """Return every file of this checkout as it is, changes included; those that are not text are left out."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    paths = {name: ROOT / name for name in filter(None, listed.stdout.split("\0"))}
    return {name: path.read_text() for name, path in paths.items() if path.is_file() and path.suffix != ".png"}


def publish(folder: Path, versions: Mapping[str, Mapping[str, str]]) -> str:
    """Publish versions as tags of a git repository in an empty folder; return its address, which is in the files, too."""
    address = folder.as_uri()
    git = ["git", "-c", "user.name=Test", "-c", "user.email=test@example.com"]
    subprocess.run([*git, "init", "--quiet"], cwd=folder, check=True)
    for version, files in versions.items():
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace(REPOSITORY, address) if name.startswith("examples/") else text)
        for arguments in (["add", "--all"], ["commit", "--quiet", f"--message={version}"], ["tag", version]):
            subprocess.run([*git, *arguments], cwd=folder, check=True)
    return address


class Project:
    """A copy of the project whose plugins are linked, so that they need not be installed twice."""

    def __init__(self, folder: Path, sandbox: Sandbox) -> None:
        """Copy `meltano.yml`, and point the plugins to the tests' own environment."""
        self.folder = folder
        self.said = ""
        text = (ROOT / "meltano.yml").read_text()
        for plugin in ("tap-nosto-segments", "target-dotdigital"):
            text = text.replace(
                f'pip_url: -c "$MELTANO_PROJECT_ROOT/constraints.txt" -e "$MELTANO_PROJECT_ROOT/{plugin}"\n    executable: {plugin}',
                f"executable: {BIN / plugin}",
            )
        (folder / "meltano.yml").write_text(text)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("TAP_", "TARGET_", "MELTANO_"))},
            "MELTANO_ENVIRONMENT": "sandbox",
            "TAP_NOSTO_SEGMENTS_EXPORT_URL": sandbox.export_url,
            "TAP_NOSTO_SEGMENTS_EXPORT_TOKEN": sandbox.nosto.token,
            "TAP_NOSTO_SEGMENTS_MAX_EXPORT_AGE_HOURS": "0",
            "TARGET_DOTDIGITAL_API_URL": sandbox.api_url,
            "TARGET_DOTDIGITAL_API_USER": sandbox.user,
            "TARGET_DOTDIGITAL_API_PASSWORD": sandbox.password,
        }

    def change(self, edit: Callable[[dict[str, Any]], None]) -> None:
        """Change `meltano.yml`."""
        path = self.folder / "meltano.yml"
        facts = yaml.safe_load(path.read_text())
        edit(facts)
        path.write_text(yaml.safe_dump(facts, sort_keys=False))

    def invite(self, kind: str, name: str, **facts: Any) -> None:
        """Add somebody else's plugin, as the documentation's recipes do.

        Args:
            kind: extractors, loaders or mappers.
            name: the plugin.
            facts: what stands below its name.
        """
        executable = facts.pop("executable", name)
        made = {"name": name, "namespace": name.replace("-", "_"), "executable": str(other(executable)), **facts}
        self.change(lambda file: file["plugins"].setdefault(kind, []).append(made))

    def meltano(self, *arguments: str, code: int = 0, cwd: Path | None = None) -> str:
        """Call Meltano."""
        done = subprocess.run(
            [BIN / "meltano", *arguments], cwd=cwd or self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        self.said = done.stdout + done.stderr
        return done.stdout

    def sync(self, code: int = 0, *options: str) -> str:
        """Call the main job; give all that it said."""
        self.meltano("run", *options, "tap-nosto-segments", "target-dotdigital", code=code)
        return self.said

    @property
    def report(self) -> dict[str, Any]:
        """The last run's report."""
        facts: dict[str, Any] = json.loads((self.folder / "var" / "sandbox" / "reports" / "report.json").read_text())
        return facts
