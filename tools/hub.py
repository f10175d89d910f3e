"""Generates MeltanoHub definitions, and the capabilities and streams in each package's README, from the plugins."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

PLUGINS = ("tap-nosto-segments", "target-dotdigital")
BUILT_IN = ("stream_map", "faker_config", "flattening_")
VARIANT = "nosto-dotdigital"
# Snapshots, ledger and reports are kept together, in one folder per environment. The paths are absolute, because state that is not
# found would be lost.
PLACES = {
    "snapshot_uri": "$MELTANO_PROJECT_ROOT/var/$MELTANO_ENVIRONMENT/snapshots",
    "ledger_url": "sqlite:///$MELTANO_PROJECT_ROOT/var/$MELTANO_ENVIRONMENT/ledger.db",
    "report_dir": "$MELTANO_PROJECT_ROOT/var/$MELTANO_ENVIRONMENT/reports",
}
# facts that `--about` does not contain
SAID: dict[str, dict[str, Any]] = {
    "tap-nosto-segments": {
        "domain_url": "https://www.nosto.com",
        "prereq": "Enable the Segment Export in Nosto's admin; it shows the address and the integration token.\n",
    },
    "target-dotdigital": {
        "domain_url": "https://dotdigital.com",
        "prereq": "An API user of the dotdigital account (Settings, Access, API users).\n",
        "next_steps": (
            "The first run writes nothing: it shows a review, and the `activation_code` that switches the sync on for exactly what was "
            "reviewed.\n"
        ),
    },
}


def ask(plugin: str, *arguments: str) -> dict[str, Any]:
    """Run a plugin and return its JSON output."""
    command = [str(Path(sys.executable).parent / plugin), *arguments]
    facts: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)  # noqa: S603 - ours
    return facts


def settings_of(about: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return a plugin's own settings, without those of the SDK."""
    schema = about["settings"]
    required = set(schema.get("required", []))
    return {
        name: {**facts, "required": name in required}
        for name, facts in schema["properties"].items()
        if not name.startswith(BUILT_IN)
    }


def kind_of(facts: dict[str, Any]) -> str:
    """Return Meltano's kind for a JSON Schema type."""
    if "enum" in facts:
        return "options"
    kinds = [kind for kind in facts["type"] if kind != "null"] if isinstance(facts["type"], list) else [facts["type"]]
    return str(kinds[0])


def definition(plugin: str, about: dict[str, Any], project: dict[str, Any]) -> str:
    """Render the definition; `project` is the plugin's definition in the project's `meltano.yml`.

    `repo` and `logo_url` have to be added when the plugin is published.
    """
    facts: dict[str, Any] = {
        "name": plugin,
        "namespace": project["namespace"],
        "variant": VARIANT,
        "label": project["label"],
        "description": about["description"],
        "pip_url": plugin,
        "executable": plugin,
        "keywords": ["meltano_sdk"],
        "maintenance_status": "beta",
        "quality": "unknown",
        "supported_python_versions": about["supported_python_versions"],
        "capabilities": sorted(about["capabilities"]),
        **SAID[plugin],
        **{name: project[name] for name in ("settings_group_validation", "select", "commands") if name in project},
        "settings": [_setting(name, one) for name, one in settings_of(about).items()],
    }
    return f"# Made by `make documents` from `{plugin} --about`.\n" + yaml.safe_dump(
        facts, sort_keys=False, width=120, allow_unicode=True
    )


def _setting(name: str, facts: dict[str, Any]) -> dict[str, Any]:
    setting: dict[str, Any] = {"name": name, "label": facts["title"], "kind": kind_of(facts), "description": facts["description"]}
    if "enum" in facts:
        setting["options"] = [{"label": option, "value": option} for option in facts["enum"]]
    if facts.get("secret"):
        setting["sensitive"] = True
    if "default" in facts:
        setting["value"] = PLACES.get(name, facts["default"])
    return setting


def said_in_readme(plugin: str, about: dict[str, Any]) -> str:
    """Render the capabilities and, for a tap, the streams with their schemas."""
    lines = [f"Capabilities: {', '.join(f'`{name}`' for name in sorted(about['capabilities']))}.", ""]
    if "discover" not in about["capabilities"]:
        return "\n".join(lines)
    for stream in ask(plugin, "--discover")["streams"]:
        root = next(one["metadata"] for one in stream["metadata"] if not one["breadcrumb"])
        keys = ", ".join(f"`{name}`" for name in stream["key_properties"])
        chosen = "selected by default" if root["selected"] else "selected on demand"
        by = f", incremental by `{stream['replication_key']}`" if stream.get("replication_key") else ""
        lines += [f"**`{stream['tap_stream_id']}`**: key {keys}{by}; {chosen}.", ""]
        lines += ["| property | type | content |", "| --- | --- | --- |"]
        for name, facts in stream["schema"]["properties"].items():
            kinds = facts["type"] if isinstance(facts["type"], list) else [facts["type"]]
            shown = ", ".join([*kinds, *([facts["format"]] if "format" in facts else [])])
            lines.append(f"| `{name}` | {shown} | {facts.get('description', '')} |")
        lines.append("")
    return "\n".join(lines)
