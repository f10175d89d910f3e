"""Rules of the target's structure that import contracts cannot express."""

from __future__ import annotations

import ast
import collections
from pathlib import Path

import target_dotdigital
from target_dotdigital.ledger import schema

PACKAGE = Path(target_dotdigital.__file__).parent
WRITING = {"insert", "update", "delete"}
STAGING = {"bulk_insert", "replace_staged", "bulk_update"}


def test_each_table_is_written_by_one_module() -> None:
    writers: dict[str, set[str]] = collections.defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        for name in _written(ast.parse(path.read_text())):
            writers[name].add(path.relative_to(PACKAGE).with_suffix("").as_posix())
    kept = {name for name, table in vars(schema).items() if getattr(table, "metadata", None) is schema.METADATA}
    assert kept <= writers.keys(), "a table that nothing writes"
    assert {name: modules for name, modules in writers.items() if name in kept and len(modules) > 1} == {}
    assert writers["contacts"] == {"ledger/contacts"}


def _written(tree: ast.Module) -> set[str]:
    """Return the names of the tables that a module changes: the first argument of a statement, the second of bulk operations."""
    found = set()
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
            place = 0 if call.func.attr in WRITING else 1 if call.func.attr in STAGING else None
            if place is not None and len(call.args) > place and isinstance(call.args[place], ast.Name):
                found.add(call.args[place].id)  # type: ignore[attr-defined]
    return found
