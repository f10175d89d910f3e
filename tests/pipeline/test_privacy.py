"""No address, token or password in anything that is said at the default level, whatever goes wrong; files are private."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest
from nosto_dotdigital_sandbox import ExportFile, Fault, Sandbox
from nosto_dotdigital_sandbox.faults import answer
from support.cases import slow_except
from support.running import BIN, START, Pipeline, run_tap, singer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRETS = ("canary-token-1", "canary-token-2", "canary-password", "canary.person", "example.com")
EXPORT = b'{"email":"canary.person@example.com","s":["A"]}\n{"email":"canary.person2@example.com","s":[]}\n'
LEAK = b'{"message":"canary.person@example.com used canary-password","errorCode":"canary.person@example.com","description":"canary-password"}'
RECORDS = [{"email": "canary.person@example.com", "segments": ["A"]}, {"email": "canary.person", "segments": []}]


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as started:
        started.nosto.token, started.nosto.api_token = SECRETS[:2]
        started.password = started.dotdigital.password = "canary-password"
        yield started


def said(plugin: str, config: dict[str, object], folder: Path, text: str = "", **environment: str) -> str:
    """Run a plugin as its command does, at the default log level, and give all that it says besides the data itself."""
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    done = subprocess.run(
        [BIN / plugin, "--config", path], input=text, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    return done.stderr + (done.stdout if plugin.startswith("target") else "")


def faults() -> list[Fault]:
    kinds = [
        Fault("answer", service=None, times=99, response=answer(status, LEAK)) for status in (400, 401, 403, 404, 409, 418, 500)
    ]
    kinds += [Fault(kind, service=None, times=99) for kind in ("drop_before", "drop_after", "cut", "garble")]
    kinds += [
        Fault("answer", service=None, times=99, response=answer(302, LEAK, {"Location": "http://canary.person@example.com/x"}))
    ]
    kinds += [Fault("answer", service=None, path="import", times=99, response=answer(400, LEAK))]
    return kinds


@pytest.mark.parametrize("number", range(len(faults())))
def test_nothing_is_said_of_anybody(pipeline: Pipeline, sandbox: Sandbox, number: int) -> None:
    sandbox.nosto.export = ExportFile(EXPORT, START)
    pipeline.tap |= {"api_token": sandbox.nosto.api_token, "graphql_url": sandbox.graphql_url, "request_timeout": 1}
    sandbox.faults.add(faults()[number])
    extracted = run_tap(pipeline.tap)
    loaded = pipeline.load(singer(RECORDS))
    logs = extracted.log + loaded.log + loaded.output
    assert [secret for secret in SECRETS if secret in logs] == [], logs
    assert "Traceback" not in logs
    assert "METRIC" in logs


BAD_INPUT = [
    '{"type":"RECORD","stream":"people","record":{"email":"canary.person@example.com"',
    '{"type":"RECORD","stream":"nobody","record":{"email":"canary.person@example.com"}}\n',
    '{"type":"SCHEMA","stream":"people","schema":{"properties":{"email":{}}},"key_properties":["canary.person@example.com"]}\n',
    singer(RECORDS) + '{"type":"RECORD","stream":"people","record":{"email":{"canary.person":"example.com"},"segments":{}}}\n',
    singer(RECORDS) + '{"type":"RECORD","stream":"people","record":["canary.person@example.com"]}\n',
    singer(RECORDS) + '{"type":"STATE","value":"canary.person@example.com"}\n',
    singer(RECORDS) + '{"type":5,"stream":"canary.person@example.com"}\n',
    singer([], email={}, segments={}).replace('"key_properties": []', '"key_properties": ["id"]')
    + '{"type":"RECORD","stream":"people","record":{"email":"canary.person@example.com","segments":[]}}\n',
]


# no JSON, a value of another type, a key that is missing
@pytest.mark.parametrize("text", slow_except({BAD_INPUT[0], BAD_INPUT[3], BAD_INPUT[-1]}, BAD_INPUT))
def test_bad_input_is_not_quoted(pipeline: Pipeline, tmp_path: Path, text: str) -> None:
    logs = said("target-dotdigital", pipeline.target, tmp_path, text)
    assert "canary.person" not in logs.replace('"canary.person@example.com"\n', ""), logs
    assert "Traceback" not in logs


def test_files_are_private_whatever_the_mask(pipeline: Pipeline, sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.nosto.export = ExportFile(EXPORT, START)
    old = os.umask(0)
    try:
        pipeline.run()
        text = subprocess.run(
            [BIN / "tap-nosto-segments", "--config", config_of(pipeline.tap, tmp_path)], capture_output=True, text=True, check=True
        ).stdout
        subprocess.run(
            [BIN / "target-dotdigital", "--config", config_of(pipeline.target_for(text), tmp_path)],
            input=text,
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        os.umask(old)
    private = [tmp_path / "snapshots", tmp_path / "reports"]
    for path in [*private, *(child for folder in private for child in folder.iterdir()), *tmp_path.glob("ledger.db*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), (path, oct(mode))


def config_of(config: dict[str, object], folder: Path) -> Path:
    path = folder / "some.json"
    path.write_text(json.dumps(config))
    return path


def test_a_netrc_and_a_proxy_get_no_authorisation(pipeline: Pipeline, sandbox: Sandbox, tmp_path: Path) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login other password other\n")
    netrc.chmod(0o600)
    sandbox.nosto.export = ExportFile(EXPORT, START)
    logs = said("tap-nosto-segments", pipeline.tap, tmp_path, HOME=str(tmp_path), NETRC=str(netrc))
    assert "rejected" not in logs
    logs = said("target-dotdigital", pipeline.target, tmp_path, singer(RECORDS), HOME=str(tmp_path), NETRC=str(netrc))
    assert "rejected the API user" not in logs
    assert {call.headers.get("authorization", "")[:6] for call in sandbox.journal.calls()} == {"Basic "}
