"""Reads the plugins' own descriptions, and generates their definitions for MeltanoHub and Meltano from them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

PLUGINS = ("tap-nosto-segments", "target-dotdigital")
BUILT_IN = ("stream_map", "faker_config")
VARIANT = "nosto-dotdigital"
# Snapshots, ledger and reports are kept together, in one folder per environment. The paths are absolute, because state that is not
# found would be lost.
PLACES = {
    "snapshot_uri": "$MELTANO_PROJECT_ROOT/var/$MELTANO_ENVIRONMENT/snapshots",
    "ledger_url": "sqlite:///$MELTANO_PROJECT_ROOT/var/$MELTANO_ENVIRONMENT/ledger.db",
    "report_dir": "$MELTANO_PROJECT_ROOT/var/$MELTANO_ENVIRONMENT/reports",
}
# what MeltanoHub shows about a plugin, and Meltano would take for settings
HUB_ONLY = {"keywords", "maintenance_status", "quality", "domain_url", "prereq", "next_steps"}
# facts that `--about` does not contain
FACTS: dict[str, dict[str, Any]] = {
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


def query(plugin: str, *arguments: str) -> dict[str, Any]:
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


def definition(plugin: str, about: dict[str, Any], project: dict[str, Any]) -> dict[str, Any]:
    """Return the definition; `project` is the plugin's definition in the project's `meltano.yml`.

    `repo` and `logo_url` have to be added when the plugin is published.
    """
    return {
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
        **FACTS[plugin],
        **{name: project[name] for name in ("settings_group_validation", "select", "commands") if name in project},
        "settings": meltano_settings(about),
    }


def lock(kind: str, definition: dict[str, Any]) -> str:
    """Render a definition as Meltano's lock file, from which a project takes a plugin that is not on MeltanoHub.

    Args:
        kind: extractors or loaders.
        definition: the definition for MeltanoHub.
    """
    facts = {"plugin_type": kind, **{name: value for name, value in definition.items() if name not in HUB_ONLY}}
    return json.dumps(facts, indent=2, ensure_ascii=False) + "\n"


def meltano_settings(about: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a plugin's settings in the form that Meltano and MeltanoHub share."""
    return [_setting(name, facts) for name, facts in settings_of(about).items()]


def to_yaml(value: Any) -> str:
    """Render a value as YAML, keys in their given order."""
    return yaml.safe_dump(value, sort_keys=False, width=120, allow_unicode=True)


def _setting(name: str, facts: dict[str, Any]) -> dict[str, Any]:
    setting: dict[str, Any] = {"name": name, "label": facts["title"], "kind": _kind(facts), "description": facts["description"]}
    if "enum" in facts:
        setting["options"] = [{"label": option, "value": option} for option in facts["enum"]]
    if facts.get("secret"):
        setting["sensitive"] = True
    if "default" in facts:
        setting["value"] = PLACES.get(name, facts["default"])
    return setting


def _kind(facts: dict[str, Any]) -> str:
    """Return Meltano's kind for a JSON Schema type.

    Meltano hands on a text as it is. Of kind boolean, it would read `"true"`, ` true` and `y` as false; of kind array, `"VIP"` as the
    letters V, I and P; of kind integer, it would end with a traceback for `"20"`. The plugins read these texts themselves, and refuse by
    name what they cannot read.
    """
    if "enum" in facts:
        return "options"
    return "object" if "object" in facts["type"] else "string"
