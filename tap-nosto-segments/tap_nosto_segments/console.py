"""What a person sees on the terminal."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def write_utf8() -> None:
    """Write standard output in UTF-8, whatever the locale.

    Standard error needs no such change: Python escapes what it cannot encode.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")


@contextlib.contextmanager
def only_warnings() -> Iterator[None]:
    """Log warnings and errors only, so that the SDK's progress lines do not precede the answer of a command.

    If the log level is not INFO, the default, it stays as it is.
    """
    root = logging.getLogger()
    level = root.level
    if level == logging.INFO:
        root.setLevel(logging.WARNING)
    try:
        yield
    finally:
        root.setLevel(level)
