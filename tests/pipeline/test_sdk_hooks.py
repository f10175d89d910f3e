"""The private parts of the SDK that the two plugins override, call or read: each exists, as they expect it.

`singer-sdk` may rename a private name in any release. Then the plugin would silently lose what it had overridden: this test fails instead.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import textwrap
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import singer_sdk
import tap_nosto_segments
import target_dotdigital
from singer_sdk import Stream, Tap, Target, plugin_base
from singer_sdk.singerlib.encoding.base import GenericSingerReader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

PACKAGES = (tap_nosto_segments, target_dotdigital)
SDK = "singer_sdk"


@dataclass(frozen=True, slots=True)
class Hook:
    """A private name of the SDK.

    Args:
        owner: class or module that defines it.
        name: its name.
        parameters: parameters of a method; None for an attribute or a class.
    """

    owner: type | ModuleType
    name: str
    parameters: str | None = None

    def __str__(self) -> str:
        """Return owner and name, for the test's ID."""
        return f"{self.owner.__name__.rpartition('.')[2]}.{self.name}"


HOOKS = [
    # Signals: the SDK installs this method as the handler and then drains, writes STATE and exits with 0. No public hook precedes it.
    Hook(Tap, "_handle_termination", "(self, signum, frame)"),
    Hook(Target, "_handle_termination", "(self, signum, frame)"),
    # Incoming STATE: the SDK keeps only the last one; the first one, with which the input begins, is seen here alone.
    Hook(Target, "_process_state_message", "(self, message_dict)"),
    # Schemas before any stream map, which may drop the mark of removal. The sink gets the mapped schema alone.
    Hook(Target, "_process_schema_message", "(self, message_dict)"),
    # BATCH messages: they reach the sink as whole files (`process_batch_files`), past the checks of each record and from any place.
    Hook(Target, "_process_batch_message", "(self, message_dict)"),
    # A record of a batch file that needs stream maps or the SDK's own checks is handed over as a RECORD message. `listen` is the only
    # public way in, and reads lines. Overridden, because the SDK drops marks of removal together with what a filter drops.
    Hook(Target, "_process_record_message", "(self, message_dict)"),
    # Outgoing STATE: `drain_all` is final and writes whatever came last. The barrier has to stand where it is written.
    Hook(Target, "_write_state_message", "(self, state)"),
    # The last STATE of the input, needed before it is written. There is no accessor.
    Hook(Target, "_latest_state"),
    # The active sinks by stream. `get_sink` would create a sink where there is none.
    Hook(Target, "_sinks_active"),
    # Age at which all sinks are drained early. It is a constant of the class and no setting.
    Hook(Target, "_MAX_RECORD_AGE_IN_MINUTES"),
    # Messages of an unknown type: the SDK's error quotes the message, which may hold an address.
    Hook(GenericSingerReader, "_process_unknown_message", "(self, message_dict)"),
    # A stream's tap. The constructor takes it, and no property returns it.
    Hook(Stream, "_tap"),
    # Version of the records of a full table. The public way is for FULL_TABLE streams, and sends ACTIVATE_VERSION before the records, too.
    Hook(Stream, "_stream_version"),
    # ACTIVATE_VERSION under every alias of the stream. Nothing public writes it after the records.
    Hook(Stream, "_write_activate_version_message", "(self, full_table_version)"),
    # The type of `--config` in the public `invoke` and `cb_config`. The SDK exports it nowhere else.
    Hook(plugin_base, "_ConfigInput"),
]


@pytest.mark.parametrize("hook", HOOKS, ids=str)
def test_hook_exists_as_expected(hook: Hook) -> None:
    found = getattr(hook.owner, hook.name, None)
    assert found is not None or hook.name in own_private_names(hook.owner), f"the SDK has no {hook} any more"
    assert hook.parameters == (_parameters(found) if inspect.isfunction(found) else None)


@pytest.mark.parametrize("hook", [hook for hook in HOOKS if hook.parameters is not None], ids=str)
def test_sdk_still_calls_the_hook(hook: Hook) -> None:
    # an override that nothing calls is as good as none
    source = "\n".join(path.read_text(encoding="utf-8") for path in Path(next(iter(singer_sdk.__path__))).rglob("*.py"))
    assert re.search(rf"(self|super\(\))\.{hook.name}\b", source)


def test_hooks_are_those_that_the_plugins_use() -> None:
    listed = {hook.name for hook in HOOKS}
    used = {name for package in PACKAGES for name in used_private_names(package)}
    assert used - listed == set(), (
        "private names of the SDK that are used and not in HOOKS: add them, and say why no public one serves"
    )
    assert listed - used == set(), "names in HOOKS that the plugins no longer use: remove them"


def used_private_names(package: ModuleType) -> set[str]:
    """Collect the private names of the SDK that a package imports, overrides, or reads off an object of the SDK."""
    names: set[str] = set()
    ancestry: set[type] = set()
    for module in _modules(package):
        tree = ast.parse(inspect.getsource(module))
        names |= set(_private_imports(tree))
        for cls in _classes(module):
            bases = {base for base in cls.__mro__ if base.__module__.partition(".")[0] == SDK}
            ancestry |= bases
            theirs = {name for base in bases for name in own_private_names(base)}
            names |= theirs & (_defined(_tree_of(cls)) | _read_off(_tree_of(cls), "self", "cls", "super()"))
    theirs = {name for base in ancestry for name in own_private_names(base)}
    for module in _modules(package):
        ours = {name for cls in _classes(module) for name in _defined(_tree_of(cls))}
        names |= theirs & (_read_off(ast.parse(inspect.getsource(module))) - ours)
    return names


@cache
def own_private_names(owner: type | ModuleType) -> frozenset[str]:
    """Return the private names that a class or module of the SDK defines, those that it assigns to `self` included."""
    return frozenset(filter(_is_private, vars(owner))) | _defined(_tree_of(owner))


def _modules(package: ModuleType) -> Iterator[ModuleType]:
    yield package
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        # Alembic runs its environment itself
        if not found.name.endswith((".__main__", ".migrations.env")):
            yield importlib.import_module(found.name)


def _classes(module: ModuleType) -> list[type]:
    return [one for one in vars(module).values() if inspect.isclass(one) and one.__module__ == module.__name__]


@cache
def _tree_of(owner: type | ModuleType) -> ast.AST:
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(owner)))
    except (OSError, TypeError):
        return ast.Module([], [])  # a class that is made at run time has no source


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _defined(tree: ast.AST) -> frozenset[str]:
    """Collect the private methods, class attributes and attributes of `self` that a class defines."""
    names: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                names.add(name)
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                names.add(name)
            case ast.ClassDef(body=body):
                targets = [target for one in body if isinstance(one, ast.Assign) for target in one.targets]
                targets += [one.target for one in body if isinstance(one, ast.AnnAssign)]
                names |= {target.id for target in targets if isinstance(target, ast.Name)}
            case _:
                pass
    return frozenset(filter(_is_private, names))


def _read_off(tree: ast.AST, *owners: str) -> set[str]:
    """Collect the private attributes that are read off or set on these expressions; without one, off any expression."""
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and _is_private(node.attr)]
    return {node.attr for node in nodes if not owners or ast.unparse(node.value) in owners}


def _private_imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == SDK:
            yield from filter(_is_private, [*(node.module or "").split("."), *(one.name for one in node.names)])


def _parameters(function: object) -> str:
    if not callable(function):
        return ""
    plain = inspect.signature(function)
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in plain.parameters.values()]
    return str(plain.replace(parameters=bare, return_annotation=inspect.Signature.empty))
