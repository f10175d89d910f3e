"""How a run ends that fails: one ERROR line, the last on the screen, and exit code 1."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import traceback
from pathlib import PurePath
from typing import TYPE_CHECKING, NoReturn

from singer_sdk.exceptions import ConfigValidationError, SingerSDKError

from tap_nosto_segments.errors import NO_SPACE, TapError, no_space

if TYPE_CHECKING:
    import logging
    from collections.abc import Collection, Iterator

# where the SDK evaluates stream maps, and where it checks them against a JSON schema that some of them break
MAPPING_MODULE = "singer_sdk.mapper"
VALIDATING_MODULE = "jsonschema.validators"


def use_utf8() -> None:
    """Write UTF-8, as JSON must be, whatever the locale says. The log needs no such care: Python escapes what stderr cannot show."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")


@contextlib.contextmanager
def reported(logger: logging.Logger, secrets: Collection[str] = ()) -> Iterator[None]:
    """End the process with one line where the work within fails.

    Args:
        logger: takes the line.
        secrets: names of the settings whose values must not be shown.
    """
    try:
        yield
    except TapError as error:
        _stop(logger, str(error))
    except ConfigValidationError as error:
        problems = "; ".join(_without_values(problem, secrets) for problem in error.errors)
        _stop(logger, f"The settings cannot be used: {problems}. Nothing was fetched. Correct them.")
    except BrokenPipeError:
        # the loader is gone and says why itself
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _stop(logger, "The loader stopped reading: the run ends here, and the bookmark stays. See the loader's own message.")
    except Exception as error:
        logger.debug("The failure in full", exc_info=True)
        if isinstance(error, OSError) and error.errno in NO_SPACE:
            _stop(logger, str(no_space(error, what="written out", emitted=True)))
        if (problem := _stream_map_problem(error)) is not None:
            _stop(logger, f"stream_maps cannot be applied: {problem}. The bookmark stays. Correct it.")
        _stop(logger, f"Unexpected {_places(error)}: a defect. The bookmark stays; please report this line.")


def _stop(logger: logging.Logger, message: str) -> NoReturn:
    logger.error(" ".join(message.split()))
    raise SystemExit(1)


def _without_values(problem: str, secrets: Collection[str]) -> str:
    """Return what is wrong with a setting, without its value where that is secret."""
    for name in secrets:
        if problem.endswith(f"in config['{name}']"):
            return f"{name} is not valid"
    return problem


def _stream_map_problem(error: Exception) -> str | None:
    """Return what is wrong with a stream map, if that is what failed.

    What an expression raises may hold a value of the record, so only its type is shown; the SDK's own errors hold the expression.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    modules = {frame.f_globals.get("__name__") for frame in frames}
    if VALIDATING_MODULE in modules:
        return "its form is not the one that the SDK documents"
    if MAPPING_MODULE not in modules:
        return None
    if isinstance(error, SingerSDKError):
        reason = f" ({type(error.__cause__).__name__})" if error.__cause__ else ""
        return f"{str(error).rstrip('.')}{reason}"
    expressions = [
        frame.f_locals["expr"] for frame in frames if frame.f_globals.get("__name__") == MAPPING_MODULE and "expr" in frame.f_locals
    ]
    return f"{type(error).__name__}{f' in the expression {expressions[-1]!r}' if expressions else ''}"


def _places(error: BaseException) -> str:
    """Return the type of an error and of its causes, each with the files and lines it went through, and nothing of the data."""
    frames = " > ".join(f"{_file(frame.filename)}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__))
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return f"{type(error).__name__} ({frames})" + (f", after {_places(cause)}" if cause else "")


def _file(path: str) -> str:
    """Return the end of a path that tells files of one name apart."""
    return "/".join(PurePath(path).parts[-2:])
