"""Hostile input: never a traceback, never a hang, never a write made of garbage; and places where nothing can be written."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nosto_dotdigital_sandbox import ExportFile, Fault, Sandbox, Shop
from nosto_dotdigital_sandbox.web import Response
from support.oracle import ADDRESS, FIELD
from support.running import BIN, START, FakeTime, Pipeline, run_tap, singer
from support.wire import assert_import

if TYPE_CHECKING:
    from collections.abc import Iterator

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
LINE = st.one_of(
    st.binary(max_size=40),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.fixed_dictionaries({"email": JSON, "s": JSON}).map(lambda value: json.dumps(value).encode()),
    st.just(b'{"email":"a@example.com","s":["A"]}'),
    st.sampled_from(
        [b'{"email":"\\ud800@example.com","s":["A"]}', b'{"email":"a@example.com","s":["\\u0000"]}', b"\xff\xfe", b'{"a":' * 200]
    ),
)
FUZZ = settings(settings.get_profile("costly"), deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
NASTY = [
    *(
        "'; DROP TABLE dotdigital_contacts; --",
        '"},{"email":"x',
        "\r\nSet-Cookie: a=b",
        "{{7*7}}",
        "<img src=x onerror=alert(1)>",
        "=cmd|' /C calc'!A0",
    ),
    *(
        "%(email)s",
        "%s%s%n",
        "../../etc/passwd",
        "\u202egnp",
        "\u0000",
        "a" * 900,
        "🛒",
        "é",
        "e\u0301",
        "\\",
        '"',
        "null",
        "\x1b[31m",
    ),
]


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[Sandbox, Pipeline]]:
    time = FakeTime()
    with Sandbox(clock=time.now, wall=time.wall) as sandbox, tempfile.TemporaryDirectory() as folder:
        pipeline = Pipeline(sandbox, Path(folder), time)
        pipeline.activate()
        yield sandbox, pipeline


def assert_calm(outcome: Any) -> None:
    assert outcome.code in {0, 1}
    assert "Traceback" not in outcome.log
    assert "defect" not in outcome.log, outcome.log[-500:]
    if outcome.code:
        assert outcome.errors


@FUZZ
@given(st.lists(LINE, max_size=8), st.sampled_from([0, 100]))
def test_exports(place: tuple[Sandbox, Pipeline], lines: list[bytes], most: int) -> None:
    sandbox, pipeline = place
    sandbox.nosto.export = ExportFile(b"\n".join(lines), START)
    with tempfile.TemporaryDirectory() as folder:
        outcome = run_tap({**pipeline.tap, "snapshot_uri": folder, "max_invalid_lines": most})
    assert_calm(outcome)
    for record in outcome.records():
        assert record["email"] == record["email"].strip().lower()
        assert all(isinstance(name, str) for name in record["segments"])


@FUZZ
@given(
    st.lists(
        st.one_of(
            LINE,
            st.fixed_dictionaries(
                {
                    "type": st.sampled_from(["RECORD", "SCHEMA", "STATE", "ACTIVATE_VERSION", "BATCH"]),
                    "stream": st.sampled_from(["people", "x"]),
                    "record": JSON,
                    "schema": JSON,
                    "value": JSON,
                    "version": JSON,
                }
            ).map(lambda value: json.dumps(value).encode()),
        ),
        max_size=5,
    )
)
def test_singer_lines(place: tuple[Sandbox, Pipeline], lines: list[bytes]) -> None:
    sandbox, pipeline = place
    sandbox.journal.clear()
    text = singer([{"email": "a@example.com", "segments": ["A"]}]) + b"\n".join(lines).decode(errors="replace") + "\n"
    assert_calm(pipeline.load(text))
    for call in sandbox.journal.imports():
        assert_import(call.json())
        for row in call.json()["contacts"]:
            assert ADDRESS.fullmatch(row["identifiers"].get("email", "a@example.com"))


@FUZZ
@given(
    st.sampled_from(["account-info", "address-books", "data-fields", "limit=", "import$", "import/"]),
    st.one_of(JSON.map(lambda v: json.dumps(v).encode()), st.binary(max_size=60)),
    st.sampled_from([200, 201, 202]),
)
def test_answers_of_dotdigital(place: tuple[Sandbox, Pipeline], path: str, body: bytes, status: int) -> None:
    sandbox, pipeline = place
    sandbox.journal.clear()
    sandbox.faults.clear()
    for ledger in pipeline.folder.glob("ledger.db*"):
        ledger.unlink()
    sandbox.faults.add(Fault("answer", service=None, path=path, times=9, response=Response(status, body)))
    pipeline.target["import_timeout"] = 60
    assert_calm(pipeline.load(singer([{"email": "a@example.com", "segments": ["A"]}])))
    sandbox.faults.clear()


@FUZZ
@given(
    st.one_of(
        JSON.map(lambda v: json.dumps(v).encode()),
        JSON.map(lambda v: json.dumps({"data": {"segments": v}}).encode()),
        st.binary(max_size=60),
    )
)
def test_answers_of_graphql(place: tuple[Sandbox, Pipeline], body: bytes) -> None:
    sandbox, pipeline = place
    sandbox.nosto.export = ExportFile(b'{"email":"a@example.com","s":["A"]}\n', START)
    sandbox.nosto.graphql_body = body
    with tempfile.TemporaryDirectory() as folder:
        config = {**pipeline.tap, "snapshot_uri": folder, "api_token": sandbox.nosto.api_token, "graphql_url": sandbox.graphql_url}
        assert_calm(run_tap(config))


def test_names_arrive_as_they_are_and_go_nowhere_else(pipeline: Pipeline) -> None:
    records = [{"email": f"p{number}@example.com", "segments": [name]} for number, name in enumerate(NASTY)]
    body = "".join(json.dumps({"email": r["email"], "s": r["segments"]}) + "\n" for r in records)
    pipeline.export(body.encode())
    outcome = pipeline.run()
    assert outcome.code == 0, outcome.log
    held = {email: contact.data_fields.get(FIELD) for email, contact in pipeline.sandbox.account.snapshot().items()}
    assert held == {record["email"]: record["segments"][0] for record in records}
    page = (pipeline.folder / "reports" / "report.html").read_text()
    assert "<img" not in page
    assert json.loads((pipeline.folder / "reports" / "report.json").read_text())["created"] == len(NASTY)
    again = pipeline.run()
    assert again.code == 0
    assert pipeline.report["sent"] == 0


@pytest.mark.parametrize("harm", ["damaged", "no database", "read-only", "a folder"])
def test_a_ledger_that_cannot_be_used(pipeline: Pipeline, harm: str) -> None:
    text = singer([{"email": f"p{n}@example.com", "segments": ["A"]} for n in range(50)])
    pipeline.load(text)
    path = pipeline.folder / "ledger.db"
    for other in pipeline.folder.glob("ledger.db-*"):
        other.unlink()
    match harm:
        case "damaged":
            path.write_bytes(path.read_bytes()[:4096] + b"\x13" * 60_000)
        case "no database":
            path.write_bytes(b"this is no database" * 999)
        case "read-only":
            pipeline.target["ledger_url"] = "sqlite:////proc/version"
        case "a folder":
            path.unlink()
            path.mkdir()
    before = len(pipeline.sandbox.journal.imports())
    outcome = pipeline.load(text.replace('"A"', '"B"'))
    assert (outcome.code, outcome.output) == (1, "")
    assert "ledger cannot be used" in outcome.errors[-1], outcome.errors
    assert "Traceback" not in outcome.log
    assert len(pipeline.sandbox.journal.imports()) == before


def test_a_disk_that_is_full(pipeline: Pipeline) -> None:
    """`/dev/full` takes no byte; the snapshot folder and the ledger lie behind it."""
    pipeline.export(b'{"email":"a@example.com","s":["A"]}\n')
    outcome = run_tap({**pipeline.tap, "snapshot_uri": "/dev/full/snapshots"})
    assert outcome.code == 1
    assert "snapshot folder" in outcome.errors[0]
    pipeline.target["report_dir"] = "/dev/full/reports"
    outcome = pipeline.load(singer([{"email": "a@example.com", "segments": ["A"]}]))
    assert outcome.code == 1
    assert "report folder" in outcome.errors[0]
    assert pipeline.sandbox.journal.imports() == []


def test_a_disk_that_fills_up_while_the_tap_works(pipeline: Pipeline, tmp_path: Path) -> None:
    """No file may grow beyond a size; the spooled export would."""
    pipeline.export(Shop(5_000).export(0))
    outcome = limited(256, "tap-nosto-segments", pipeline.tap, b"", tmp_path)
    assert outcome.returncode == 1, outcome.stderr
    assert b"The export could not be stored" in outcome.stderr
    assert b"Traceback" not in outcome.stderr
    assert b'"RECORD"' not in outcome.stdout
    assert b'"STATE"' not in outcome.stdout
    # and nothing is in the way of the next run
    assert pipeline.run().code == 0
    assert len(pipeline.sandbox.account.snapshot()) == 5_000


@pytest.mark.parametrize("kilobytes", [pytest.param(200, marks=pytest.mark.slow), 4096])
def test_a_disk_that_fills_up_while_the_target_works(pipeline: Pipeline, tmp_path: Path, kilobytes: int) -> None:
    text = singer([{"email": f"p{number}@example.com", "segments": ["Loyal Customers"]} for number in range(20_000)])
    outcome = limited(kilobytes, "target-dotdigital", {**pipeline.target, "poll_interval_ms": 20}, text.encode(), tmp_path)
    assert outcome.returncode == 1, outcome.stderr
    assert b"Traceback" not in outcome.stderr
    assert b"The ledger cannot be used" in outcome.stderr
    assert outcome.stdout == b""
    assert pipeline.load(text).code == 0
    assert len(pipeline.sandbox.account.snapshot()) == 20_000


def limited(kilobytes: int, plugin: str, config: dict[str, Any], given: bytes, folder: Path) -> subprocess.CompletedProcess[bytes]:
    path = folder / f"{plugin}.json"
    path.write_text(json.dumps(config))
    command = ["sh", "-c", f'ulimit -f {kilobytes * 2}; exec "$0" "$@"', str(BIN / plugin), "--config", str(path)]
    return subprocess.run(command, input=given, capture_output=True, check=False)


def test_a_newest_snapshot_that_is_damaged(pipeline: Pipeline) -> None:
    pipeline.export(b'{"email":"a@example.com","s":["A"]}\n')
    assert pipeline.extract().code == 0
    (path,) = (pipeline.folder / "snapshots").glob("*.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    outcome = pipeline.extract()
    assert outcome.code == 1
    assert outcome.errors[0].startswith("The newest snapshot is damaged")
    assert [line["type"] for line in outcome.lines if line["type"] in {"RECORD", "STATE"}] == []
