"""Renders the pages of the documentation that are generated from the code of both packages."""

from __future__ import annotations

import importlib
import inspect
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hub
import jinja2

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=jinja2.select_autoescape(),
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
# the filter `tojson` that comes with Jinja escapes for HTML
TEMPLATES.filters["json"] = json.dumps
PACKAGES = {plugin: ROOT / plugin / plugin.replace("-", "_") for plugin in hub.PLUGINS}
# the command of each plugin: module, and class or function
COMMANDS = {
    "tap-nosto-segments": ("tap_nosto_segments.cli", "create_command"),
    "target-dotdigital": ("target_dotdigital.cli", "CommandLine"),
}
ASSUMPTIONS = {
    "About Nosto": "tap_nosto_segments.assumptions",
    "About dotdigital": "target_dotdigital.rehearsal.assumptions",
}


def cell(text: str) -> str:
    """Escape a text for a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


TEMPLATES.filters["cell"] = cell


def errors_page() -> str:
    """Render the reference of errors."""
    plugins = {
        plugin: list(_error_kinds(importlib.import_module(f"{package.name}.errors"))) for plugin, package in PACKAGES.items()
    }
    return TEMPLATES.get_template("errors.md.j2").render(plugins=plugins)


def assumptions_page() -> str:
    """Render the assumptions of both packages."""
    plugins = {heading: list(_assumptions(importlib.import_module(module).ASSUMPTIONS)) for heading, module in ASSUMPTIONS.items()}
    return TEMPLATES.get_template("assumptions.md.j2").render(plugins=plugins)


def options_table(plugin: str) -> str:
    """Render a plugin's command-line options, and those of its subcommands, as a table."""
    module, name = COMMANDS[plugin]
    made = getattr(importlib.import_module(module), name)
    command = made.cli if hasattr(made, "cli") else made()
    commands = list(getattr(command, "commands", {}).values())
    return TEMPLATES.get_template("options.md.j2").render(options=command.params, commands=commands)


def report_keys() -> str:
    """Render the keys of report.json as a table, from its schema."""
    schema = report_schema()
    return TEMPLATES.get_template("report.md.j2").render(keys=_keys(schema, schema["$defs"]))


def report_schema() -> dict[str, Any]:
    """Return the JSON schema of report.json."""
    schema: dict[str, Any] = importlib.import_module("target_dotdigital.reporting.report").report_schema()
    return schema


def _keys(schema: dict[str, Any], definitions: dict[str, Any], prefix: str = "") -> Iterator[dict[str, str]]:
    """Yield the described keys of an object, and those of the objects in it; `*` stands for any key."""
    for name, facts in schema.get("properties", {}).items():
        forms = [_resolved(form, definitions) for form in facts.get("anyOf", [facts])]
        if "description" in facts:
            types = [form["type"] if "type" in form else "integer" if 1 in form["enum"] else "string" for form in forms]
            yield {"name": f"{prefix}{name}", "type": " or ".join(types), "description": facts["description"]}
        for form in forms:
            yield from _keys(form, definitions, f"{prefix}{name}.")
            if isinstance(values := form.get("additionalProperties"), dict):
                yield from _keys(_resolved(values, definitions), definitions, f"{prefix}{name}.*.")


def _resolved(form: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return what a reference of a schema stands for."""
    found: dict[str, Any] = definitions[form["$ref"].rpartition("/")[2]] if "$ref" in form else form
    return found


def _error_kinds(module: ModuleType) -> Iterator[Any]:
    """Yield the classes of a module of errors that an operator meets, in their order."""
    for kind in vars(module).values():
        if inspect.isclass(kind) and kind.__module__ == module.__name__ and "title" in vars(kind):
            yield kind


def _assumptions(assumptions: Iterable[Any]) -> Iterable[dict[str, Any]]:
    """Yield the facts of each assumption; some have no title."""
    return ({"title": "", **asdict(assumption)} for assumption in assumptions)
