"""Local folders and files that hold addresses, and the resolution of paths and URLs in settings."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import fsspec
from fsspec.implementations.local import LocalFileSystem

if TYPE_CHECKING:
    from pathlib import Path


def locate(place: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """Return the file system and the path of a local path or an fsspec URL.

    A local path is used unchanged: `::` does not separate file systems in it.
    """
    if "://" in place:
        files, path = fsspec.core.url_to_fs(place)
        return files, str(path)
    return LocalFileSystem(), os.path.abspath(os.path.expanduser(place))  # noqa: PTH100, PTH111 - pathlib does neither alone


def create_private_folder(path: Path) -> None:
    """Create a folder that only its owner can enter, unless it exists: an existing folder may belong to others, and is not changed."""
    if path.is_dir():
        return
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    # the folder is often inside a project, and addresses must not get into its repository
    (path / ".gitignore").write_text("*\n")


def open_private(path: str, flags: int) -> int:
    """Open a file that only its owner can read if it is created; for `open`."""
    return os.open(path, flags, 0o600)
