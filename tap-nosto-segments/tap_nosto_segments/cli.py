"""The command line: `tap-nosto-segments` is the Singer tap; `check` and `try-auth` are its subcommands. Each failure becomes one line."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import sys
import traceback
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import IO, TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import click
import msgspec
from singer_sdk.exceptions import ConfigValidationError, SingerSDKError
from singer_sdk.singerlib import Catalog
from singer_sdk.tap_base import CliTestOptionValue

from tap_nosto_segments.environment import variable_of, variables_without_effect
from tap_nosto_segments.errors import OUT_OF_SPACE_ERRNOS, InputError, TapError, storage_error
from tap_nosto_segments.streams import STREAMS, include_marks_of_removal
from tap_nosto_segments.tap import TapNostoSegments
from tap_nosto_segments.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

LOGGER = logging.getLogger("tap-nosto-segments")
REPLICATION_KEYS: dict[str, str | None] = {vars(stream)["name"]: vars(stream).get("replication_key") for stream in STREAMS}
SECRETS = [name for name, facts in TapNostoSegments.config_jsonschema["properties"].items() if facts.get("secret")]
# the wording of jsonschema
MISSING_SETTING = re.compile(r"'(\w+)' is a required property.*")
# the SDK evaluates stream maps in the first module; some invalid ones fail in the second, which validates their schema
MAPPING_MODULE = "singer_sdk.mapper"
VALIDATING_MODULE = "jsonschema.validators"
Converted = TypeVar("Converted")
CONFIG_HELP = "Configuration file, or ENV for environment variables and a .env file. May be repeated."


@dataclass(slots=True)
class Config:
    """The settings of the `--config` options.

    Args:
        values: the settings of all files.
        from_environment: whether environment variables take precedence.
    """

    values: dict[str, Any] = field(default_factory=dict)
    from_environment: bool = False

    def __or__(self, other: Config) -> Config:
        """Return these settings with those of another configuration, which take precedence."""
        return Config(self.values | other.values, self.from_environment or other.from_environment)


def main() -> None:
    """Run the command."""
    create_command()()


def create_command() -> click.Group:
    """Return the command with its subcommands: the SDK's options, with our error messages."""
    singer = TapNostoSegments.cli  # sets up the log as well
    callbacks: dict[str, Any] = {"config": _read_config, "discover": _discover, "test": _test}
    for option in singer.params:
        option.callback = callbacks.get(str(option.name), option.callback)
    return click.Group(
        TapNostoSegments.name,
        commands=[check, try_auth],
        callback=_run,
        invoke_without_command=True,
        params=singer.params,
        context_settings=singer.context_settings,
        help=(
            "Extract the segments of each contact from Nosto's Segment Export, as Singer messages on standard output. Start with the "
            "command check: it shows what a run would find, and stores and emits nothing. Settings come from --config; --about lists them."
        ),
    )


def sync(
    config: Config,
    state: IO[str] | None = None,
    catalog: IO[str] | None = None,
    tap_class: type[TapNostoSegments] = TapNostoSegments,
) -> None:
    """Run the Singer tap.

    Raises:
        SystemExit: the run failed.
    """
    with exit_on_failure():
        tap = _open_tap(config, state, catalog, tap_class)
        # first, because the SDK writes the starting STATE and each SCHEMA before it requests records
        with tap.extracting():
            tap.sync_all()


def run_check(
    config: Config,
    state: IO[str] | None = None,
    catalog: IO[str] | None = None,
    tap_class: type[TapNostoSegments] = TapNostoSegments,
    *,
    email: str | None = None,
) -> None:
    """Show what a run would find at Nosto, and whether it would pass its guards. Store and emit nothing.

    Raises:
        SystemExit: a run would fail.
    """
    from tap_nosto_segments.check import check_source  # noqa: PLC0415 - not needed by a run

    with _log_level(logging.WARNING), exit_on_failure():
        check_source(_open_tap(config, state, catalog, tap_class), email)


def run_try_auth(config: Config, tap_class: type[TapNostoSegments] = TapNostoSegments) -> None:
    """Show which form of authorisation opens the export.

    Raises:
        SystemExit: no form opens it.
    """
    from tap_nosto_segments.check import try_authorisation  # noqa: PLC0415 - not needed by a run

    with _log_level(logging.WARNING), exit_on_failure():
        try_authorisation(_open_tap(config, None, None, tap_class).settings)


def _run(
    *,
    about: bool,
    about_format: str | None,
    config: Config,
    state: IO[str] | None,
    catalog: IO[str] | None,
) -> None:
    """Run the sync as the options of the group require, unless a subcommand follows."""
    logging.captureWarnings(capture=True)
    _write_utf8()
    context = click.get_current_context()
    context.obj = (config, state, catalog)
    if context.invoked_subcommand is not None:
        return
    if about:
        TapNostoSegments.print_about(about_format)
        return
    sync(config, state, catalog)


def _read_config(context: click.Context, _option: click.Option, paths: tuple[str, ...]) -> Config:
    merged = context.obj[0] if context.obj else Config()
    with exit_on_failure():
        for path in paths:
            if path == "ENV":
                merged |= Config(from_environment=True)
                continue
            with explain_file_errors(f"config file {path}", "--config", "Correct its path or its content."):
                merged |= Config(_read_object(io.StringIO(Path(path).read_text(encoding="utf-8"))))
    return merged


def _discover(context: click.Context, _option: click.Option, value: bool) -> None:  # noqa: FBT001 - click calls it
    if not value:
        return
    config = context.params["config"]
    # discovery needs no settings; the SDK would log that settings are invalid, but not which
    with _log_level(logging.ERROR), exit_on_failure():
        tap = TapNostoSegments(
            config=config.values, parse_env_config=config.from_environment, validate_config=False, setup_mapper=False
        )
        tap.run_discovery()
    missing = [name for name in tap.config_jsonschema["required"] if name not in tap.config]
    if missing:
        LOGGER.warning("Not set, and needed by a run: %s", ", ".join(f"{name} ({variable_of(name)})" for name in missing))
    context.exit()


def _test(context: click.Context, _option: click.Option, value: str) -> None:
    if value == CliTestOptionValue.Disabled.value:
        return
    _write_utf8()
    with exit_on_failure():
        tap = _open_tap(context.params["config"], None, None, TapNostoSegments)
        if value == CliTestOptionValue.Schema.value:
            tap.write_schemas()
        else:
            for stream in tap.streams.values():
                stream.selected = True
            with tap.extracting():
                tap.run_connection_test()
    context.exit()


@click.command(short_help="Show what a run would find, and test the assumptions about Nosto.")
@click.option("--config", multiple=True, callback=_read_config, help=CONFIG_HELP)
@click.option("--state", type=click.File(), help="State file: the snapshot of its bookmark is compared with.")
@click.option("--catalog", type=click.File(), help="Singer catalog: the streams that a run would emit.")
@click.option("--find", "email", metavar="EMAIL", help="Also show what the export holds for this address.")
@click.pass_obj
def check(
    group: tuple[Config, IO[str] | None, IO[str] | None],
    config: Config,
    state: IO[str] | None,
    catalog: IO[str] | None,
    email: str | None,
) -> None:
    """Fetch the export and test the settings, the guards and each assumption about Nosto.

    Nothing is stored or emitted. Exit code 0: a run would pass its guards.
    """
    run_check(config, state or group[1], catalog or group[2], email=email)


@click.command(short_help="Show which value of export_auth opens the export.")
@click.option("--config", multiple=True, callback=_read_config, help=CONFIG_HELP)
def try_auth(config: Config) -> None:
    """Request the export once with each value of export_auth, and show which one opens it.

    The token is sent to the host of export_url only. Exit code 0: at least one value opens the export.
    """
    run_try_auth(config)


def _open_tap(
    config: Config, state: IO[str] | None, catalog: IO[str] | None, tap_class: type[TapNostoSegments]
) -> TapNostoSegments:
    os.umask(0o077)
    tap_class.print_version(print_fn=LOGGER.info)
    tap = tap_class(
        config=config.values,
        state=None if state is None else read_state(state),
        catalog=None if catalog is None else include_marks_of_removal(read_catalog(catalog)),
        parse_env_config=config.from_environment,
    )
    for line in variables_without_effect(tap.config, tap.config_jsonschema, from_environment=config.from_environment):
        LOGGER.warning("%s", line)
    return tap


def _write_utf8() -> None:
    """Write standard output in UTF-8, regardless of the locale. Standard error escapes what it cannot encode."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")


@contextlib.contextmanager
def _log_level(level: int) -> Iterator[None]:
    """Log from this level on, so that the SDK's progress lines do not precede an answer; any level except INFO, the default, stays."""
    root = logging.getLogger()
    before = root.level
    if before == logging.INFO:
        root.setLevel(level)
    try:
        yield
    finally:
        root.setLevel(before)


@contextlib.contextmanager
def exit_on_failure() -> Iterator[None]:
    """Log one line, the last one of the plugin, and exit with code 1 if the block fails.

    Raises:
        SystemExit: the block failed.
    """
    try:
        yield
    except TapError as error:
        _exit(str(error))
    except ConfigValidationError as error:
        _exit(f"The settings cannot be used: {'; '.join(map(_explain_setting, error.errors))}. Nothing was fetched. Correct them.")
    except BrokenPipeError:
        # the loader has exited and logged the reason
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _exit("The loader closed its input; the run stops. The bookmark was not advanced. See the loader's error.")
    except Exception as error:
        LOGGER.debug("Traceback of the failure", exc_info=True)
        if isinstance(error, OSError) and error.errno in OUT_OF_SPACE_ERRNOS:
            _exit(str(storage_error(error, action="written out", emitted=True)))
        if (problem := _stream_map_problem(error)) is not None:
            _exit(f"stream_maps cannot be applied: {problem}. The bookmark is not advanced. Correct it.")
        if isinstance(error, OSError) and error.errno is not None:
            _exit(
                f"The operating system reports {os.strerror(error.errno)!r} ({_trace(error)}). The bookmark is not advanced. Remove the "
                "cause, and run again."
            )
        _exit(f"Unexpected {_trace(error)}: a defect. The bookmark is not advanced; please report this line.")


def _exit(message: str) -> NoReturn:
    LOGGER.error(" ".join(message.split()))
    raise SystemExit(1)


def _explain_setting(problem: str) -> str:
    """Return what is wrong with a setting: which one is missing, with its variable; never the value of a secret."""
    if missing := MISSING_SETTING.fullmatch(problem):
        return f"{missing[1]} ({variable_of(missing[1])}) is not set"
    return next((f"{name} is not valid" for name in SECRETS if problem.endswith(f"in config['{name}']")), problem)


def _stream_map_problem(error: Exception) -> str | None:
    """Return what is wrong with a stream map; None if the error has another cause.

    An exception raised by an expression may contain a value of the record, so only its type is shown. The SDK's own errors contain
    the expression.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    modules = {frame.f_globals.get("__name__") for frame in frames}
    if VALIDATING_MODULE in modules:
        return "it does not have the form that the SDK documents"
    if MAPPING_MODULE not in modules:
        return None
    if isinstance(error, SingerSDKError):
        reason = f" ({type(error.__cause__).__name__})" if error.__cause__ else ""
        return f"{str(error).rstrip('.')}{reason}"
    expressions = [
        frame.f_locals["expr"] for frame in frames if frame.f_globals.get("__name__") == MAPPING_MODULE and "expr" in frame.f_locals
    ]
    return f"{type(error).__name__}{f' in the expression {expressions[-1]!r}' if expressions else ''}"


def _trace(error: BaseException) -> str:
    """Return the exception chain as type and location only; messages may contain personal data."""
    frames = " > ".join(
        f"{'/'.join(PurePath(frame.filename).parts[-2:])}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)
    )
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return f"{type(error).__name__} ({frames})" + (f", after {_trace(cause)}" if cause else "")


class _Bookmark(msgspec.Struct):
    """The bookmark of one stream, as the SDK and this tap write it. The streams have no partitions."""

    snapshot: str | None = None
    replication_key: str | None = None
    replication_key_value: str | None = None
    replication_key_signpost: str | None = None
    starting_replication_value: str | None = None
    progress_markers: dict[str, Any] | None = None
    partitions: Annotated[list[Any], msgspec.Meta(max_length=0)] | None = None


class _Property(msgspec.Struct):
    type: str | list[str] | None = None
    format: str | None = None
    anyOf: list[dict[str, Any]] | None = None  # noqa: N815 - spelled as in JSON Schema
    allOf: list[dict[str, Any]] | None = None  # noqa: N815
    oneOf: list[dict[str, Any]] | None = None  # noqa: N815


class _Schema(msgspec.Struct):
    properties: dict[str, _Property] = {}


class _Metadata(msgspec.Struct):
    breadcrumb: list[str]
    metadata: dict[str, Any]


class _Entry(msgspec.Struct):
    tap_stream_id: str
    schema: _Schema
    stream: str | None = None
    metadata: list[_Metadata] = []
    key_properties: list[str] | None = None
    replication_key: str | None = None
    replication_method: str | None = None


class _Catalog(msgspec.Struct):
    streams: list[_Entry]


def read_state(file: IO[str]) -> dict[str, Any]:
    """Read a state file.

    Raises:
        InputError: the file is not a STATE of this tap.
    """
    with explain_file_errors(
        "state file", "--state", "Pass the STATE that the last run wrote, or omit --state to emit everything."
    ):
        state = _read_object(file)
        if state and "bookmarks" not in state:
            msg = "it has no bookmarks"
            raise ValueError(msg)
        bookmarks = _convert("bookmarks", state.get("bookmarks", {}), dict[str, Any])
        for name, bookmark in bookmarks.items():
            _convert(f"the bookmark of {printable(name)}", bookmark, _Bookmark if name in REPLICATION_KEYS else dict[str, Any])
        if bookmarks and not REPLICATION_KEYS.keys() & bookmarks.keys():
            msg = f"its bookmarks are of none of this tap's streams, which are {', '.join(REPLICATION_KEYS)}"
            raise ValueError(msg)
    return state


def read_catalog(file: IO[str]) -> Catalog:
    """Read a catalog.

    Raises:
        InputError: the file is not a catalog of this tap.
    """
    with explain_file_errors("catalog", "--catalog", "Create a new one with --discover, and change only the selection in it."):
        catalog = _read_object(file)
        for entry in _convert("the catalog", catalog, _Catalog).streams:
            _require_valid_entry(entry)
        return Catalog.from_dict(catalog)


def _require_valid_entry(entry: _Entry) -> None:
    name = entry.tap_stream_id
    problem = None
    if name not in REPLICATION_KEYS:
        problem = f"this tap has no stream {printable(name)!r}, only {', '.join(REPLICATION_KEYS)}"
    elif entry.stream not in {None, name}:
        problem = f"it renames the stream {name} to {printable(entry.stream or '')!r}, which only stream_maps can do"
    else:
        root = next((item.metadata for item in entry.metadata if not item.breadcrumb), {})
        key = entry.replication_key or root.get("replication-key")
        method = entry.replication_method or root.get("forced-replication-method")
        if key and key != REPLICATION_KEYS[name]:
            problem = f"the stream {name} has no replication key {printable(str(key))!r}"
        elif method and method != "FULL_TABLE" and (method != "INCREMENTAL" or REPLICATION_KEYS[name] is None):
            problem = f"the stream {name} cannot be replicated with the method {printable(str(method))!r}"
    if problem:
        raise ValueError(problem)


def _read_object(file: IO[str]) -> dict[str, Any]:
    if isinstance(file, io.TextIOWrapper):
        file.reconfigure(encoding="utf-8")  # the encoding of JSON, regardless of the locale
    text = file.read()
    if not text.strip():
        msg = "it is empty"
        raise ValueError(msg)
    value = json.loads(text)
    if not isinstance(value, dict):
        msg = "it is JSON, but not an object"
        raise ValueError(msg)  # noqa: TRY004 - explained like all other problems
    return value


@contextlib.contextmanager
def explain_file_errors(name: str, option: str, advice: str) -> Iterator[None]:
    """Turn any error in reading a file into one line, which shows no values of the file.

    Args:
        name: the file, for the message.
        option: the option of the command line that specifies it.
        advice: what to do.

    Raises:
        InputError: the file cannot be used.
    """
    try:
        yield
    except UnicodeDecodeError:
        problem = "it is not UTF-8 text"
    except RecursionError:
        problem = "it is nested too deeply"
    except OSError as error:
        problem = f"it cannot be read ({type(error).__name__})"
    except ValueError as error:
        # raised by this module, json and msgspec
        line, column = getattr(error, "lineno", None), getattr(error, "colno", None)
        problem = str(error) if line is None else f"it is not JSON (line {line}, column {column})"
    except (TypeError, AttributeError, KeyError) as error:
        problem = f"it does not have the expected form ({type(error).__name__})"
    else:
        return
    msg = f"The {name} ({option}) cannot be used: {problem}. Nothing was fetched. {advice}"
    raise InputError(msg)


def _convert(place: str, value: object, kind: type[Converted]) -> Converted:
    """Convert a value to a type; an error shows only the place and the types, not the value."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        msg = f"{place}: {error}"
        raise ValueError(msg) from None
