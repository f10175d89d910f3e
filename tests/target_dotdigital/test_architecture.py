"""Rules of the target's structure that import contracts cannot express."""

from __future__ import annotations

import ast
import collections
from pathlib import Path

import target_dotdigital
from target_dotdigital.ledger import tables

PACKAGE = Path(target_dotdigital.__file__).parent
WRITING = {"insert", "update", "delete"}
STAGING = {"put", "stage"}


def test_each_table_is_written_by_one_module() -> None:
    writers: dict[str, set[str]] = collections.defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        for name in _written(ast.parse(path.read_text())):
            writers[name].add(_station(path))
    kept = {name for name, table in vars(tables).items() if getattr(table, "metadata", None) is tables.METADATA}
    assert kept <= writers.keys(), "a table that nothing writes"
    assert {name: modules for name, modules in writers.items() if name in kept and len(modules) > 1} == {}
    assert writers["contacts"] == {"ledger/contacts"}


def test_no_module_is_longer_than_600_lines() -> None:
    lengths = {path.relative_to(PACKAGE).as_posix(): len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert lengths
    assert {name: length for name, length in lengths.items() if length > 600} == {}


def _station(path: Path) -> str:
    """Return the module, or the package of modules that write one table together."""
    relative = path.relative_to(PACKAGE).with_suffix("")
    return "ledger/contacts" if relative.parts[:2] == ("ledger", "contacts") else relative.as_posix()


def _written(tree: ast.Module) -> set[str]:
    """Return the names of the tables that a module changes: the first argument of a statement, the second of bulk operations."""
    found = set()
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
            place = 0 if call.func.attr in WRITING else 1 if call.func.attr in STAGING else None
            if place is not None and len(call.args) > place and isinstance(call.args[place], ast.Name):
                found.add(call.args[place].id)  # type: ignore[attr-defined]
    return found
