"""Collects the kinds of errors of both packages, and the messages that their code raises with each kind."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

# name -> the expressions that are assigned to it
Values = Mapping[str, Sequence[ast.expr]]

# stands for a fact that is only known when the error occurs
FACT = "…"
SENTENCE_END = ". "
# characters; a choice behind them does not make another message
MAX_OPENING = 40
# characters; less is no message, but what is left of one that is made elsewhere
MIN_TEXT = 20
# methods that note a problem, with the kind whose message quotes it in the end
NOTED_BY = {"_problem": "DeliveryError", "_stop": "DeliveryError"}


@dataclass(frozen=True, slots=True, order=True)
class Message:
    """One error message.

    Args:
        opening: its first sentence, by which to look it up.
        rest: what follows: what it means and what to do.
    """

    opening: str
    rest: str


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of error: a class of a package's `errors.py`.

    Args:
        name: name of the class.
        title: heading.
        cause: what causes it.
        remedy: what to do.
        messages: the messages that the code raises with it, in alphabetical order.
    """

    name: str
    title: str
    cause: str
    remedy: str
    messages: tuple[Message, ...]


def kinds(package: Path) -> list[Kind]:
    """Return the kinds of errors that a package raises, in the order of its `errors.py`.

    Args:
        package: folder of the package's modules; the package is importable.

    Raises:
        ValueError: a kind has no messages, or a message cannot be read from the code.
    """
    module = importlib.import_module(f"{package.name}.errors")
    classes: dict[str, Any] = {
        name: value
        for name, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__ and "title" in vars(value)
    }
    found: dict[str, set[Message]] = {name: set() for name in classes}
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in sorted(package.rglob("*.py"))]
    attributes = {name: value for tree in trees for name, value in _attributes(tree)}
    for tree in trees:
        for name, text in _raised(tree, set(classes), attributes):
            if len(text.strip(FACT)) > MIN_TEXT and name in found:
                found[name].add(_message(text))
    if silent := [name for name, messages in found.items() if not messages]:
        msg = f"{package.name}: no message of {', '.join(silent)} can be read from the code"
        raise ValueError(msg)
    return [
        Kind(name=name, title=kind.title, cause=kind.cause, remedy=kind.remedy, messages=tuple(sorted(found[name])))
        for name, kind in classes.items()
    ]


def _raised(tree: ast.Module, classes: set[str], attributes: Mapping[str, ast.expr]) -> Iterator[tuple[str, str]]:
    """Yield each kind of error that a module makes, with its messages."""
    reader = _Reader(tree, attributes)
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name in classes:
            # a kind that makes its message by itself
            yield from (
                (node.name, text) for call in _calls(node, {"__init__"}) if call.args for text in reader.texts(call.args[0], {})
            )
        elif isinstance(node, ast.FunctionDef):
            values, start = _assignments(ast.walk(node)), 0
            for call in sorted(_calls(node, classes | NOTED_BY.keys()), key=lambda call: call.lineno):
                # several branches may each assign the message that is raised behind them
                own = {name: [value for value in found if value.lineno > start] or found for name, found in values.items()}
                kind = NOTED_BY.get(_name(call), _name(call))
                yield from ((kind, text) for text in reader.texts(call.args[0], own))
                start = call.lineno


def _calls(scope: ast.AST, names: set[str]) -> Iterator[ast.Call]:
    return (node for node in ast.walk(scope) if isinstance(node, ast.Call) and _name(node) in names)


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id if isinstance(call.func, ast.Name) else ""


class _Reader:
    """Reads texts from the code of a module, with `FACT` for what is not known before the program runs.

    Args:
        tree: the module.
        attributes: texts that are assigned to attributes anywhere in the package.
    """

    def __init__(self, tree: ast.Module, attributes: Mapping[str, ast.expr]) -> None:
        self._attributes = attributes
        self._functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        self._constants = _assignments(tree.body)

    def texts(self, node: ast.expr, values: Values) -> list[str]:  # noqa: PLR0911 - one for each form of expression
        """Return the texts that an expression may have.

        Args:
            node: the expression.
            values: what its names stand for.
        """
        match node:
            case ast.Constant(value=str(text)):
                return [text]
            case ast.JoinedStr(values=parts):
                return self._joined(parts, values)
            case ast.FormattedValue(value=value, conversion=-1, format_spec=None):
                return self.texts(value, values)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self._joined([left, right], values)
            case ast.IfExp(body=body, orelse=other):
                return [*self.texts(body, values), *self.texts(other, values)]
            case ast.BoolOp(values=choices):
                return [text for choice in choices for text in self.texts(choice, values)]
            case ast.Name(id=name):
                assigned = [value for value in values.get(name, ()) if value.lineno < node.lineno] or self._constants.get(name, ())
                return [text for value in assigned for text in self.texts(value, {**values, name: ()})] or [FACT]
            case ast.Attribute(attr=name) if name in self._attributes:
                return self.texts(self._attributes[name], {})
            case ast.Call(func=ast.Name(id=name), args=arguments) if name in self._functions:
                return self._returned(self._functions[name], [self.texts(one, values) for one in arguments])
        return [FACT]

    def _joined(self, parts: Sequence[ast.expr], values: Values) -> list[str]:
        """Join the parts of a text. Only its opening has several forms: a choice further on, or of a word, is a fact like others."""
        texts = [""]
        for part in parts:
            found = self.texts(part, values)
            if len(found) > 1 and (max(map(len, texts)) > MAX_OPENING or max(map(len, found)) < MIN_TEXT):
                found = [FACT]
            texts = [f"{text}{end}" for text in texts for end in found]
        return texts

    def _returned(self, function: ast.FunctionDef, arguments: Sequence[list[str]]) -> list[str]:
        returned = [one.value for one in ast.walk(function) if isinstance(one, ast.Return) and one.value is not None]
        if len(returned) != 1:
            return [FACT]
        given = {
            parameter.arg: [ast.Constant(texts[0] if len(texts) == 1 else FACT, lineno=0, col_offset=0)]
            for parameter, texts in zip(function.args.args, arguments, strict=False)
        }
        return self.texts(returned[0], {**_assignments(ast.walk(function)), **given})


def _attributes(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Yield the texts that a module assigns to attributes of objects."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute) and isinstance(node.value, ast.JoinedStr):
            yield node.targets[0].attr, node.value


def _assignments(nodes: Iterable[ast.AST]) -> Values:
    """Return the values that are assigned to each name, by line."""
    found: dict[str, list[ast.expr]] = {}
    for node in nodes:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found.setdefault(node.targets[0].id, []).append(node.value)
    return {name: sorted(values, key=lambda value: value.lineno) for name, values in found.items()}


def _message(text: str) -> Message:
    opening, end, rest = " ".join(text.split()).partition(SENTENCE_END)
    return Message(re.sub(f"{FACT}+", FACT, opening + end.strip()), re.sub(f"{FACT}+", FACT, rest))
