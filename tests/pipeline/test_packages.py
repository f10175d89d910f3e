"""What is handed out: wheels and source distributions that install alone, and definitions that Meltano takes."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
import zipfile
from email.parser import BytesParser
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from support.cases import slow_except
from support.meltano import ROOT
from support.running import BIN

if TYPE_CHECKING:
    from pathlib import Path

PLUGINS = ["tap-nosto-segments", "target-dotdigital"]
UV = BIN / "uv"
# the Hub's own rules: what has to be there, and what else may be
REQUIRED = {"name", "namespace", "variant", "quality"}
ALLOWED = REQUIRED | {
    *("label", "description", "pip_url", "repo", "executable", "capabilities", "settings", "settings_group_validation", "keywords"),
    *("logo_url", "domain_url", "maintenance_status", "supported_python_versions", "prereq", "usage", "next_steps"),
    *("settings_preamble", "commands", "select"),
}


def run(*arguments: object, cwd: Path | None = None) -> str:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("TAP_", "TARGET_", "MELTANO_", "VIRTUAL"))
    }
    done = subprocess.run([str(one) for one in arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_package_installs_alone_and_runs(plugin: str, tmp_path: Path) -> None:
    module = plugin.replace("-", "_")
    # the wheel is made from the source distribution: whatever that lacks, the wheel lacks too
    run(UV, "build", "-q", "--out-dir", tmp_path, ROOT / plugin)
    (wheel,) = tmp_path.glob("*.whl")
    (source,) = tmp_path.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (name for name in names if name.endswith("/METADATA"))
        facts = BytesParser().parsebytes(archive.read(metadata))
    modules = {path.name for path in (ROOT / plugin / module).glob("*.py")}
    assert {f"{module}/{name}" for name in [*modules, "py.typed"]} <= names
    assert all(name.startswith((f"{module}/", f"{module}-")) for name in names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert (facts["License-Expression"], facts["Requires-Python"]) == ("Apache-2.0", ">=3.11")
    assert "Typing :: Typed" in facts.get_all("Classifier", [])
    assert facts["Description-Content-Type"] == "text/markdown"
    with tarfile.open(source) as archive:
        assert {"README.md", "LICENSE", "pyproject.toml"} <= {name.partition("/")[2] for name in archive.getnames()}

    home = tmp_path / "clean"
    run(UV, "venv", "-q", "--python", BIN / "python", home)
    run(UV, "pip", "install", "-q", "-c", ROOT / "constraints.txt", "--python", home / "bin" / "python", wheel)
    about = json.loads(run(home / "bin" / plugin, "--about", "--format=json", cwd=tmp_path))
    assert about["name"] == plugin
    assert about["version"] == facts["Version"]
    others = json.loads(run(UV, "pip", "list", "--format=json", "--python", home / "bin" / "python"))
    assert {one["name"] for one in others} & {*PLUGINS, "meltano", "nosto-dotdigital-sandbox"} == {plugin}


@pytest.mark.parametrize("plugin", slow_except({"target-dotdigital"}, PLUGINS))
def test_meltano_takes_the_definition_for_the_hub(plugin: str, tmp_path: Path) -> None:
    path = ROOT / plugin / "meltanohub.yml"
    definition: dict[str, Any] = yaml.safe_load(path.read_text())
    assert set(definition) >= REQUIRED
    assert set(definition) <= ALLOWED
    for setting in definition["settings"]:
        assert {"name", "label", "kind", "description"} <= set(setting)
    assert {one["name"] for one in definition["settings"] if one.get("sensitive")} >= {
        "tap-nosto-segments": {"export_token", "api_token"},
        "target-dotdigital": {"api_password", "ledger_url"},
    }[plugin]

    # a memory that is not found is a lost one: the same place from every folder, another one in every environment
    places = {
        one["name"]: one["value"] for one in definition["settings"] if one["name"] in {"snapshot_uri", "ledger_url", "report_dir"}
    }
    assert places
    assert all("$MELTANO_PROJECT_ROOT/" in place and "/$MELTANO_ENVIRONMENT/" in place for place in places.values())

    (tmp_path / "meltano.yml").write_text("project_id: fresh\nsend_anonymous_usage_stats: false\nenvironments: [{name: dev}]\n")
    kind = "extractor" if plugin.startswith("tap") else "loader"
    run(BIN / "meltano", "add", "--plugin-type", kind, "--no-install", plugin, "--from-ref", path, cwd=tmp_path)
    added = yaml.safe_load((tmp_path / "meltano.yml").read_text())["plugins"][f"{kind}s"]
    assert [one["name"] for one in added] == [plugin]
    listed = run(BIN / "meltano", "config", "list", "--all", plugin, cwd=tmp_path)
    assert all(one["name"] in listed for one in definition["settings"])
    (tmp_path / "below").mkdir()
    shown = run(BIN / "meltano", "--environment=dev", "config", "print", plugin, cwd=tmp_path / "below")
    assert f"{tmp_path}/var/dev/" in shown


@pytest.mark.slow
def test_the_tap_reads_every_line_with_the_lowest_versions_that_it_allows(tmp_path: Path) -> None:
    """DuckDB before 1.5.4 takes the first record of a line, and drops the rest of the line in silence."""
    home = tmp_path / "lowest"
    run(UV, "venv", "-q", "--python", BIN / "python", home)
    python = home / "bin" / "python"
    run(UV, "pip", "install", "-q", "--resolution", "lowest-direct", "--python", python, ROOT / "tap-nosto-segments")
    installed = {one["name"]: one["version"] for one in json.loads(run(UV, "pip", "list", "--format=json", "--python", python))}
    assert installed["duckdb"] == "1.5.4"
    export, config = tmp_path / "export.jsonl", tmp_path / "config.json"
    good = [f'{{"email":"{name}@example.com","seg":["A"]}}\n' for name in "abc"]
    settings = {"export_url": str(export), "snapshot_uri": str(tmp_path / "snapshots"), "max_export_age_hours": 0}

    def emitted(*lines: str) -> list[str]:
        export.write_text("".join(lines))
        config.write_text(json.dumps(settings))
        messages = [json.loads(line) for line in run(home / "bin" / "tap-nosto-segments", "--config", config).splitlines()]
        return [message["record"]["email"] for message in messages if message["type"] == "RECORD"]

    assert emitted(*good) == ["a@example.com", "b@example.com", "c@example.com"]
    for rest in (good[1], " x\n"):
        settings["max_invalid_lines"] = 0
        with pytest.raises(AssertionError, match="1 of 2 lines"):
            emitted(good[0].strip() + rest, good[2])
        settings["max_invalid_lines"] = 1
        # a and b keep what is known of them
        assert emitted(good[0].strip() + rest, good[2]) == ["a@example.com", "b@example.com", "c@example.com"]
