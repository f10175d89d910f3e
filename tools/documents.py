"""Generates the settings in meltano.yml, the READMEs, .env.example and the MeltanoHub definitions from the plugins.

`python tools/documents.py` rewrites the text between the marks; `--check` only reports files that are out of date.
"""

from __future__ import annotations

import json
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

import hub
import yaml
from hub import PLACES, PLUGINS

ROOT = Path(__file__).resolve().parent.parent


@cache
def about(plugin: str) -> dict[str, Any]:
    """Return the output of a plugin's `--about`."""
    return hub.ask(plugin, "--about", "--format=json")


def settings_of(plugin: str) -> dict[str, dict[str, Any]]:
    """Return a plugin's own settings."""
    return hub.settings_of(about(plugin))


def meltano_settings(plugin: str) -> str:
    """Render the settings for `meltano.yml`."""
    lines = []
    for name, facts in settings_of(plugin).items():
        lines += [f"    - name: {name}", f"      label: {_quoted(facts['title'])}"]
        kind = hub.kind_of(facts)
        lines.append(f"      kind: {kind}")
        if kind == "options":
            lines.append("      options:")
            lines += [f"      - {{label: {option}, value: {option}}}" for option in facts["enum"]]
        if facts.get("secret"):
            lines.append("      sensitive: true")
        if name in PLACES:
            lines.append(f"      value: {PLACES[name]}")
        elif "default" in facts:
            lines.append(f"      value: {json.dumps(facts['default'])}")
        lines.append(f"      description: {_quoted(facts['description'])}")
    return "\n".join(lines) + "\n"


def table(plugin: str) -> str:
    """Render the settings as a table for a README."""
    lines = ["| setting | default | what it does |", "| --- | --- | --- |"]
    for name, facts in settings_of(plugin).items():
        default = "required" if facts["required"] else f"`{json.dumps(facts['default'])}`" if "default" in facts else "none"
        marks = " (secret)" if facts.get("secret") else ""
        description = facts["description"].replace("|", "\\|")
        lines.append(f"| `{name}`{marks} | {default} | {description} |")
    return "\n".join(lines) + "\n"


def environment() -> str:
    """Render `.env.example`: settings needed for a first run are set, all others are commented out."""
    lines = []
    for plugin in PLUGINS:
        prefix = plugin.upper().replace("-", "_")
        lines += [f"# {plugin}", ""]
        for name, facts in settings_of(plugin).items():
            lines.append(f"# {facts['title']}: {facts['description']}")
            needed = facts["required"] or name in {"export_token", "activation_code"}
            default = "" if needed or name in PLACES else json.dumps(facts["default"]) if "default" in facts else ""
            if default.startswith('"'):
                default = json.loads(default)
            lines += [f"{'' if needed else '# '}{prefix}_{name.upper()}={_shell(default)}", ""]
    return "\n".join(lines)


def own_part(text: str, plugin: str) -> dict[str, Any]:
    """Return a plugin's definition in `meltano.yml`."""
    plugins = yaml.safe_load(text)["plugins"]
    found: dict[str, Any] = next(one for kind in ("extractors", "loaders") for one in plugins[kind] if one["name"] == plugin)
    return found


def documents() -> dict[Path, str]:
    """Return the up-to-date text of every generated document."""
    meltano, readme = ROOT / "meltano.yml", ROOT / "README.md"
    texts = {meltano: meltano.read_text(), readme: readme.read_text(), ROOT / ".env.example": environment()}
    for plugin in PLUGINS:
        own = ROOT / plugin / "README.md"
        texts[meltano] = _between(texts[meltano], f"    # settings of {plugin}", meltano_settings(plugin))
        shown = table(plugin)
        texts[readme] = _between(texts[readme], f"<!-- settings of {plugin}", shown)
        texts[own] = _between(own.read_text(), f"<!-- settings of {plugin}", shown)
        texts[own] = _between(texts[own], f"<!-- what {plugin} says of itself", hub.said_in_readme(plugin, about(plugin)))
        texts[ROOT / plugin / "meltanohub.yml"] = hub.definition(plugin, about(plugin), own_part(texts[meltano], plugin))
    return texts


def _between(text: str, mark: str, content: str) -> str:
    pattern = re.compile(rf"({re.escape(mark)}: begin[^\n]*\n).*?({re.escape(mark)}: end)", re.DOTALL)
    if not pattern.search(text):
        msg = f"the mark {mark!r} is missing"
        raise ValueError(msg)
    return pattern.sub(lambda found: found[1] + content + found[2], text)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _shell(text: str) -> str:
    return f"'{text}'" if re.search(r"[^A-Za-z0-9_.:/@+-]", text) else text


def main() -> int:
    """Rewrite the documents, or check them with `--check`."""
    stale = [path for path, text in documents().items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is not what the settings say: run `make documents`")  # noqa: T201 - a command
        return 1 if stale else 0
    for path, text in documents().items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
