"""Creates folders for files with addresses: readable only by their owner, and ignored by git."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def make_private_folder(path: Path) -> None:
    """Create a private folder if it is missing, with a `.gitignore` that excludes its content.

    Raises:
        OSError: the folder cannot be created.
    """
    if path.is_dir():
        return
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    ignored = path / ".gitignore"
    ignored.write_text("*\n")
    ignored.chmod(0o600)
