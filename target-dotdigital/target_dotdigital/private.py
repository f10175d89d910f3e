"""Folders that hold addresses: for their owner alone, and never part of anybody's repository."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def make_private_folder(path: Path) -> None:
    """Make a folder if it is missing, with a `.gitignore` that keeps its content out of `git add`.

    Raises:
        OSError: it cannot be made.
    """
    if path.is_dir():
        return
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    ignored = path / ".gitignore"
    ignored.write_text("*\n")
    ignored.chmod(0o600)
