"""Generates meltano.yml's settings, .env.example, the definitions for MeltanoHub and Meltano, and the reference pages from the plugins.

`python tools/documents.py` rewrites whole files, or the text between marks; `--check` only reports files that are out of date.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
import textwrap
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import click
import hub
import yaml
from pages import ROOT, TEMPLATES, assumptions_page, errors_page, options_table, report_keys, report_schema

if TYPE_CHECKING:
    from pathlib import Path

REFERENCE = ROOT / "docs" / "reference"
# the Meltano project that people copy
PROJECT = ROOT / "examples" / "project"
# set by the operator although they are not required
FIRST_RUN_SETTINGS = {"export_token", "activation_code"}


@dataclass(frozen=True, slots=True)
class Example:
    """One variable of `.env.example`.

    Args:
        variable: name of the environment variable.
        value: default, quoted for a shell; empty if there is none.
        needed: whether a first run needs it; all others are commented out.
        comment: title and description of the setting.
    """

    variable: str
    value: str
    needed: bool
    comment: str


@cache
def about(plugin: str) -> dict[str, Any]:
    """Return the output of a plugin's `--about`."""
    return hub.query(plugin, "--about", "--format=json")


def meltano_settings(plugin: str) -> str:
    """Render the settings for `meltano.yml`."""
    return textwrap.indent(hub.to_yaml(hub.meltano_settings(about(plugin))), "    ")


def settings_table(plugin: str) -> str:
    """Render the settings as a table."""
    return TEMPLATES.get_template("settings.md.j2").render(plugin=plugin.partition("-")[0], settings=hub.settings_of(about(plugin)))


def environment() -> str:
    """Render `.env.example`."""
    plugins = {
        plugin: [_example(plugin, name, facts) for name, facts in hub.settings_of(about(plugin)).items()] for plugin in hub.PLUGINS
    }
    return TEMPLATES.get_template("env.j2").render(plugins=plugins)


def interface(plugin: str) -> str:
    """Render the capabilities and, for a tap, the streams with their schemas."""
    capabilities = sorted(about(plugin)["capabilities"])
    streams = hub.query(plugin, "--discover")["streams"] if "discover" in capabilities else []
    return TEMPLATES.get_template("plugin.md.j2").render(capabilities=capabilities, streams=streams)


def own_part(text: str, plugin: str) -> dict[str, Any]:
    """Return a plugin's definition in `meltano.yml`."""
    plugins = yaml.safe_load(text)["plugins"]
    found: dict[str, Any] = next(one for kind in ("extractors", "loaders") for one in plugins[kind] if one["name"] == plugin)
    return found


def documents() -> dict[Path, str]:
    """Return the up-to-date text of every generated document."""
    meltano = ROOT / "meltano.yml"
    settings, streams, commands = (REFERENCE / f"{name}.md" for name in ("settings", "streams", "commands"))
    report = REFERENCE / "report.md"
    texts = {path: path.read_text() for path in (meltano, settings, streams, commands, report)}
    texts[report] = _between(texts[report], "<!-- keys of the report", report_keys())
    texts[REFERENCE / "report.schema.json"] = json.dumps(report_schema(), indent=2) + "\n"
    texts[ROOT / ".env.example"] = environment()
    texts[REFERENCE / "errors.md"] = errors_page()
    texts[ROOT / "docs" / "assumptions.md"] = assumptions_page()
    for plugin in hub.PLUGINS:
        own = ROOT / plugin / "README.md"
        texts[meltano] = _between(texts[meltano], f"    # settings of {plugin}", meltano_settings(plugin))
        table = settings_table(plugin)
        texts[settings] = _between(texts[settings], f"<!-- settings of {plugin}", table)
        texts[commands] = _between(texts[commands], f"<!-- options of {plugin}", options_table(plugin))
        texts[own] = _between(own.read_text(), f"<!-- settings of {plugin}", table)
        texts[own] = _between(texts[own], f"<!-- what {plugin} says of itself", interface(plugin))
        if "discover" in about(plugin)["capabilities"]:
            texts[streams] = _between(texts[streams], f"<!-- what {plugin} says of itself", interface(plugin))
        definition = hub.definition(plugin, about(plugin), own_part(texts[meltano], plugin))
        texts[ROOT / plugin / "meltanohub.yml"] = f"# Made by `make documents` from `{plugin} --about`.\n{hub.to_yaml(definition)}"
        kind = "extractors" if plugin.startswith("tap-") else "loaders"
        texts[PROJECT / "plugins" / kind / f"{plugin}--{hub.VARIANT}.lock"] = hub.lock(kind, definition)
    return texts


def _example(plugin: str, name: str, facts: dict[str, Any]) -> Example:
    needed = facts["required"] or name in FIRST_RUN_SETTINGS
    default = "" if needed or name in hub.PLACES else facts.get("default", "")
    text = default if isinstance(default, str) else json.dumps(default)
    return Example(
        variable=f"{plugin}_{name}".replace("-", "_").upper(),
        value=shlex.quote(text) if text else "",
        needed=needed,
        comment=f"{facts['title']}: {facts['description']}",
    )


def _between(text: str, mark: str, content: str) -> str:
    pattern = re.compile(rf"({re.escape(mark)}: begin[^\n]*\n).*?({re.escape(mark)}: end)", re.DOTALL)
    if not pattern.search(text):
        msg = f"the mark {mark!r} is missing"
        raise ValueError(msg)
    return pattern.sub(lambda found: found[1] + content + found[2], text)


def main() -> int:
    """Rewrite the documents, or check them with `--check`."""
    texts = documents()
    stale = [path for path, text in texts.items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv:
        for path in stale:
            click.echo(f"{path.relative_to(ROOT)} is out of date: run `make documents`")
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(texts[path])
    return 0


if __name__ == "__main__":
    sys.exit(main())
