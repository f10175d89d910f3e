"""Settings as text: environment variables, and the types that the schema of the settings declares for them.

The SDK and Meltano read an unrecognised boolean as false, and an incomplete list as a list. Here such a text is refused with the name of
the setting.
"""

from __future__ import annotations

import ast
import difflib
import json
import os
import re
from typing import TYPE_CHECKING, Any

from dotenv import load_dotenv

from target_dotdigital.errors import SettingsError
from target_dotdigital.text import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

PREFIX = "TARGET_DOTDIGITAL_"
BOOLEANS = {
    **dict.fromkeys(("true", "1", "yes", "on", "y"), True),
    **dict.fromkeys(("false", "0", "no", "off", "n"), False),
}
QUOTES = "\"'`\u2018\u2019\u201c\u201d"
INTEGER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
# variables with this prefix that are not settings: the SDK's log level, and what Meltano sets for its own plugins
OTHERS = re.compile(r"LOGLEVEL|_.*|(.*_)?(LOADER|EXTRACTOR)")


def _bare(text: str) -> str:
    """Return a text without the spaces and quotes around it."""
    return text.strip().strip(QUOTES).strip()


def _boolean(text: str) -> bool:
    return BOOLEANS[_bare(text).lower()]


def _integer(text: str) -> int:
    if not INTEGER.fullmatch(bare := _bare(text)):
        raise ValueError(bare)
    return int(bare)


def _array(text: str) -> list[Any]:
    for parse in (json.loads, ast.literal_eval):  # Meltano writes a list of meltano.yml as Python does
        try:
            value = parse(_bare(text))
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(value, list):
            return value
    raise ValueError(text)


def _object(text: str) -> dict[str, Any]:
    value = json.loads(_bare(text))
    if not isinstance(value, dict):
        raise TypeError(text)
    return value


# type -> how a text is read, and what to write
READERS: dict[str, tuple[Callable[[str], Any], str]] = {
    "boolean": (_boolean, "true or false"),
    "integer": (_integer, "a whole number"),
    "array": (_array, 'a list in JSON, such as ["A", "B"]'),
    "object": (_object, "an object in JSON"),
}
TYPES: dict[str, type] = {"string": str, "boolean": bool, "integer": int, "array": list, "object": dict}


def variable_of(name: str) -> str:
    """Return the environment variable of a setting."""
    return PREFIX + name.upper()


def read_settings(config: Mapping[str, Any], schema: Mapping[str, Any], *, from_environment: bool) -> dict[str, Any]:
    """Return settings in the types that the schema declares; other values stay as they are, for the schema to judge.

    Args:
        config: the settings of `--config` files.
        schema: JSON schema of the settings.
        from_environment: whether environment variables, and those of a `.env` file, take precedence.

    Raises:
        SettingsError: a text cannot be read as the type of its setting.
    """
    values, wrong = dict(config), []
    if from_environment:
        load_dotenv()
        values |= {name: os.environ[variable] for name in schema["properties"] if (variable := variable_of(name)) in os.environ}
    for name in schema["properties"].keys() & values.keys():
        try:
            values[name] = _typed(values[name], schema["properties"][name])
        except (ValueError, KeyError, TypeError, RecursionError):
            wrong.append(f"{name} ({variable_of(name)}) is not {READERS[_kind(schema['properties'][name])][1]}")
    if wrong:
        msg = f"The settings cannot be used, so nothing was done: {'; '.join(sorted(wrong))}. Correct them."
        raise SettingsError(msg)
    return values


def read_setting(config: Mapping[str, Any], schema: Mapping[str, Any], name: str) -> Any:
    """Return a setting of a failed run, whose settings may be invalid; the default if the value cannot be read.

    Args:
        config: the settings of `--config` files, perhaps with defaults.
        schema: JSON schema of the settings.
        name: the setting.
    """
    facts = schema["properties"][name]
    value, default = config.get(name), facts.get("default")
    # the SDK has already added defaults to the configuration
    if not value or value == default:
        value = os.environ.get(variable_of(name), value)
    try:
        value = _typed(value, facts)
    except (ValueError, KeyError, TypeError, RecursionError):
        return default
    return value if type(value) is TYPES[_kind(facts)] else default


def variables_without_effect(config: Mapping[str, Any], schema: Mapping[str, Any], *, from_environment: bool) -> Iterator[str]:
    """Yield a line for each environment variable that looks like a setting and is not used; values are never shown.

    Args:
        config: the settings that are used.
        schema: JSON schema of the settings.
        from_environment: whether environment variables were read.
    """
    properties = schema["properties"]
    known = {variable_of(name): name for name in properties}
    # Meltano also sets a variable for each entry of an object
    entries = tuple(f"{variable_of(name)}_" for name, facts in properties.items() if _kind(facts) == "object")
    for variable in sorted(os.environ):
        if variable in known:
            if not from_environment and _differs(config, properties, known[variable]):
                yield f"{variable} has no effect: the settings come from the file of --config alone. Add --config=ENV, or remove it."
        elif variable.upper().startswith(PREFIX) and not variable.startswith(entries):
            if OTHERS.fullmatch(variable, len(PREFIX)):
                continue
            near = difflib.get_close_matches(variable.upper(), known, n=1, cutoff=0.8)
            hint = f"did you mean {near[0]}?" if near else "--about lists the settings."
            yield f"{shown(variable)} has no effect: there is no such setting; {hint}"


def _differs(config: Mapping[str, Any], properties: Mapping[str, Any], name: str) -> bool:
    """Return whether a variable has another value than the setting that is used."""
    facts = properties[name]
    try:
        given = _typed(os.environ[variable_of(name)], facts)
    except (ValueError, KeyError, TypeError, RecursionError):
        return True
    return bool(given != config.get(name, facts.get("default")))


def _kind(facts: Mapping[str, Any]) -> str:
    """Return the type of a setting, without null."""
    types = facts.get("type", "string")
    return next((kind for kind in ([types] if isinstance(types, str) else types) if kind != "null"), "string")


def _typed(value: Any, facts: Mapping[str, Any]) -> Any:
    kind = _kind(facts)
    if kind == "boolean" and type(value) is int:
        value = str(value)  # YAML's 1 and 0
    return READERS[kind][0](value) if kind in READERS and isinstance(value, str) else value
