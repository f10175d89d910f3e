"""End a failed run with one ERROR line, the last one on the screen, and exit code 1."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from pathlib import PurePath
from typing import TYPE_CHECKING, NoReturn

from singer_sdk.exceptions import ConfigValidationError, SingerSDKError

from tap_nosto_segments.errors import OUT_OF_SPACE_ERRNOS, TapError, storage_error

if TYPE_CHECKING:
    import logging
    from collections.abc import Collection, Iterator

# the SDK evaluates stream maps in the first module; some invalid ones fail in the second, which validates their schema
MAPPING_MODULE = "singer_sdk.mapper"
VALIDATING_MODULE = "jsonschema.validators"


@contextlib.contextmanager
def exit_on_failure(logger: logging.Logger, secrets: Collection[str] = ()) -> Iterator[None]:
    """Log one line and exit with code 1 if the block fails.

    Args:
        logger: logger for the line.
        secrets: names of the settings whose values must not be shown.

    Raises:
        SystemExit: the block failed.
    """
    try:
        yield
    except TapError as error:
        _exit(logger, str(error))
    except ConfigValidationError as error:
        problems = "; ".join(_without_secret(problem, secrets) for problem in error.errors)
        _exit(logger, f"The settings cannot be used: {problems}. Nothing was fetched. Correct them.")
    except BrokenPipeError:
        # the loader has exited and logged the reason
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _exit(logger, "The loader stopped reading, so the run stops, too. The bookmark stays. See the loader's own message.")
    except Exception as error:
        logger.debug("Traceback of the failure", exc_info=True)
        if isinstance(error, OSError) and error.errno in OUT_OF_SPACE_ERRNOS:
            _exit(logger, str(storage_error(error, action="written out", emitted=True)))
        if (problem := _stream_map_problem(error)) is not None:
            _exit(logger, f"stream_maps cannot be applied: {problem}. The bookmark stays. Correct it.")
        if isinstance(error, OSError) and error.errno is not None:
            _exit(
                logger,
                f"The operating system reports {os.strerror(error.errno)!r} ({_trace(error)}). The bookmark stays. Remove the cause, and "
                "run again.",
            )
        _exit(logger, f"Unexpected {_trace(error)}: a defect. The bookmark stays; please report this line.")


def _exit(logger: logging.Logger, message: str) -> NoReturn:
    logger.error(" ".join(message.split()))
    raise SystemExit(1)


def _without_secret(problem: str, secrets: Collection[str]) -> str:
    """Return what is wrong with a setting, without its value if that is a secret."""
    for name in secrets:
        if problem.endswith(f"in config['{name}']"):
            return f"{name} is not valid"
    return problem


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
    """Return the types of an error and its causes with their files and lines, but without messages, which may contain data."""
    frames = " > ".join(f"{_short_path(frame.filename)}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__))
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return f"{type(error).__name__} ({frames})" + (f", after {_trace(cause)}" if cause else "")


def _short_path(path: str) -> str:
    """Return the last two parts of a path."""
    return "/".join(PurePath(path).parts[-2:])
