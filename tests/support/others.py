"""Taps, targets and mappers that are not ours, each in an environment of its own, made when a test first asks for it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from filelock import FileLock

from support.running import BIN

if TYPE_CHECKING:
    from pathlib import Path

PACKAGES = {
    # old packages that still import pkg_resources
    "target-jsonl": ("target-jsonl==0.1.4", "setuptools<80"),
    # with a later DuckDB it takes the first record of each load for a header
    "target-duckdb": ("target-duckdb==0.8.0", "duckdb==1.2.2", "setuptools<80"),
    "target-postgres": ("meltanolabs-target-postgres==0.8.1",),
    "tap-postgres": ("meltanolabs-tap-postgres==0.10.0",),
    "tap-spreadsheets": ("tap-spreadsheets==1.1.2",),
    "airflow": ("apache-airflow==3.3.2",),
    "meltano-map-transform": ("meltano-map-transform==0.12.3",),
}


def other(name: str) -> Path:
    """Give a plugin's command, installed beside the project's own environment."""
    home = BIN.parent / "others" / name
    ready = home / ".ready"
    home.mkdir(parents=True, exist_ok=True)
    # two tests at once may ask for the same one
    with FileLock(home.with_suffix(".lock")):
        if not ready.exists():
            subprocess.run([BIN / "uv", "venv", "-q", "--clear", "--python", BIN / "python", home], check=True)
            install = [str(BIN / "uv"), "pip", "install", "-q", "--python", str(home / "bin" / "python"), *PACKAGES[name]]
            subprocess.run(install, check=True)
            ready.touch()
    return home / "bin" / name
