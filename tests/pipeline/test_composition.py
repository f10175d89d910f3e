"""In the company of other people's plugins, through Meltano: our tap into their targets, their taps into our target."""

from __future__ import annotations

import collections
import csv
import datetime
import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
import sqlalchemy as sa
from nosto_dotdigital_sandbox import ExportFile, Sandbox, Shop
from support.meltano import Project
from support.oracle import FIELD, expected
from support.running import START, Pipeline

if TYPE_CHECKING:
    from pathlib import Path

LEDGERS = ["postgresql"]
REAL_TIME = True
SHOP = Shop(400, change_per_mille=200)
PEOPLE = {"ann@example.com": ["VIP", "Affinity: Nike"], "bob@example.com": [], "eve@example.com": ["Outdoor Enthusiasts, Organic"]}


@pytest.fixture
def project(tmp_path: Path, sandbox: Sandbox) -> Project:
    made = Project(tmp_path, sandbox)
    # the demo's choice of segments is not wanted here
    made.change(lambda file: file["environments"][1]["config"]["plugins"].pop("extractors"))
    return made


def put(sandbox: Sandbox, day: int) -> dict[str, list[str]]:
    body = SHOP.export(day)
    sandbox.nosto.export = ExportFile(body, START + datetime.timedelta(days=day))
    return expected(body)


def select(project: Project, pattern: str) -> None:
    project.change(lambda file: file["plugins"]["extractors"][0].update(select=[pattern]))


def activate(project: Project, sandbox: Sandbox, folder: Path, stream: str) -> None:
    made = Pipeline(sandbox, folder / "reviewed")
    project.environment["TARGET_DOTDIGITAL_ACTIVATION_CODE"] = made.activate(stream)


def labels(sandbox: Sandbox) -> dict[str, str | None]:
    return {email: contact.data_fields.get(FIELD) for email, contact in sandbox.account.snapshot().items()}


def address_of(ledger_url: str) -> tuple[sa.URL, str]:
    """Give the database without the test's own schema, and that schema."""
    url = sa.make_url(ledger_url)
    return url.set(query={}), str(url.query["options"]).rpartition("=")[2]


@pytest.mark.slow
def test_the_history_in_a_file_and_a_database(project: Project, sandbox: Sandbox, ledger_url: str, tmp_path: Path) -> None:
    url, schema = address_of(ledger_url)
    project.invite("loaders", "target-jsonl", config={"destination_path": str(tmp_path), "do_timestamp_file": False})
    database = {"sqlalchemy_url": url.render_as_string(hide_password=False), "default_target_schema": schema}
    project.invite("loaders", "target-postgres", config=database)
    select(project, "segment_changes.*")
    before: dict[str, list[str]] = {}
    moves = []
    for day in range(2):
        now = put(sandbox, day)
        for email in now.keys() | before.keys():
            new, old = set(now.get(email, ())), set(before.get(email, ()))
            moves += [(email, name, "entered") for name in new - old] + [(email, name, "left") for name in old - new]
        tap = "tap-nosto-segments"
        project.meltano("run", tap, "target-jsonl", tap, "target-postgres")
        before = now
    moves.sort()

    lines = [json.loads(line) for line in (tmp_path / "segment_changes.jsonl").read_text().splitlines()]
    assert sorted((line["email"], line["segment"], line["change"]) for line in lines) == moves
    counted = duckdb.read_json(str(tmp_path / "segment_changes.jsonl")).aggregate("change, count(*)").fetchall()
    assert dict(counted) == collections.Counter(change for _, _, change in moves)
    engine = sa.create_engine(ledger_url)
    with engine.connect() as connection:
        rows = connection.execute(sa.text("SELECT email, segment, change FROM segment_changes")).all()
        # the question that docs/recipes.md answers
        left = connection.scalars(
            sa.text(
                "SELECT email FROM segment_changes WHERE segment = 'Loyal Customers' AND change = 'left' AND exported_at >= :since"
            ),
            {"since": START + datetime.timedelta(days=1)},
        ).all()
    engine.dispose()
    assert sorted(tuple(row) for row in rows) == moves
    assert sorted(left) == [email for email, name, change in moves if name == "Loyal Customers" and change == "left"]
    assert left


@pytest.mark.slow
def test_every_stream_in_duckdb(project: Project, sandbox: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "nosto.duckdb"
    config = {"path": str(path), "default_target_schema": "main", "batch_size_rows": 100}
    project.invite("loaders", "target-duckdb", config=config)
    select(project, "*.*")
    days = []
    for day in range(2):
        days.append(put(sandbox, day))
        project.meltano("run", "tap-nosto-segments", "target-duckdb")
    with duckdb.connect(path, read_only=True) as database:
        contacts = database.execute("SELECT email, segments, _sdc_deleted_at FROM contact_segments").fetchall()
        counts = database.execute("SELECT name, contact_count FROM segments").fetchall()
        left = database.execute("SELECT segment, count(*) FROM segment_changes WHERE change = 'left' GROUP BY ALL").fetchall()
    assert {email: json.loads(names) for email, names, deleted in contacts if deleted is None} == days[1]
    gone = days[0].keys() - days[1].keys()
    assert gone
    assert {email for email, _, deleted in contacts if deleted} == gone
    now = collections.Counter(name for names in days[1].values() for name in names)
    assert {name: count for name, count in counts if count} == now
    lost = collections.Counter(name for email, names in days[0].items() for name in names if name not in days[1].get(email, ()))
    assert dict(left) == lost


@pytest.mark.slow
def test_a_mapper_hashes_the_addresses(project: Project, sandbox: Sandbox, tmp_path: Path) -> None:
    wanted = put(sandbox, 0)
    config = {"stream_maps": {"contact_segments": {"email": "sha256(email)"}}}
    mapping = [{"name": "hash-addresses", "config": config}]
    project.invite("mappers", "meltano-map-transformer", executable="meltano-map-transform", mappings=mapping)
    project.invite("loaders", "target-jsonl", config={"destination_path": str(tmp_path), "do_timestamp_file": False})
    project.meltano("run", "tap-nosto-segments", "hash-addresses", "target-jsonl")
    lines = [json.loads(line) for line in (tmp_path / "contact_segments.jsonl").read_text().splitlines()]
    found = {line["email"]: line["segments"] for line in lines}
    assert found == {hashlib.sha256(email.encode()).hexdigest(): names for email, names in wanted.items()}
    assert "@" not in (tmp_path / "contact_segments.jsonl").read_text()


@pytest.mark.slow
def test_a_csv_file_into_dotdigital(project: Project, sandbox: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "loyalty.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["E-mail", "Groups", "City"])
        writer.writerows([email, "; ".join(names), "Bath"] for email, names in PEOPLE.items())
    files = [{"path": str(path), "format": "csv", "table_name": "loyalty", "primary_keys": ["e_mail"]}]
    project.invite("extractors", "tap-spreadsheets", capabilities=["catalog", "discover", "state"], config={"files": files})
    project.change(
        lambda file: file["plugins"]["loaders"][0].update(config={"email_property": "e_mail", "segments_property": "groups"})
    )
    activate(project, sandbox, tmp_path, "loyalty")
    project.meltano("run", "tap-spreadsheets", "target-dotdigital")
    assert labels(sandbox) == {email: ";".join(sorted(names)) or None for email, names in PEOPLE.items()}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["text[]", "text"])
def test_a_table_into_dotdigital(project: Project, sandbox: Sandbox, ledger_url: str, tmp_path: Path, kind: str) -> None:
    url, schema = address_of(ledger_url)
    engine = sa.create_engine(ledger_url)
    with engine.begin() as connection:
        connection.execute(sa.text(f"CREATE TABLE shoppers (mail text PRIMARY KEY, tiers {kind}, city text)"))
        rows: list[dict[str, Any]] = [
            {"mail": mail, "tiers": names if kind == "text[]" else ";".join(names)} for mail, names in PEOPLE.items()
        ]
        connection.execute(sa.text("INSERT INTO shoppers VALUES (:mail, :tiers, 'Bath')"), rows)
    # the tap wants a password, also where the server does not
    given = url.set(drivername="postgresql", password=url.password or "none")
    config = {"sqlalchemy_url": given.render_as_string(hide_password=False), "filter_schemas": [schema]}
    capabilities = ["catalog", "discover", "state"]
    project.invite("extractors", "tap-postgres", capabilities=capabilities, config=config, select=[f"{schema}-shoppers.*"])
    project.change(
        lambda file: file["plugins"]["loaders"][0].update(config={"email_property": "mail", "segments_property": "tiers"})
    )
    activate(project, sandbox, tmp_path, f"{schema}-shoppers")
    project.meltano("run", "tap-postgres", "target-dotdigital")
    assert labels(sandbox) == {email: ";".join(sorted(names)) or None for email, names in PEOPLE.items()}

    # who left the table keeps the labels until it says so: a table has no deletions
    with engine.begin() as connection:
        connection.execute(
            sa.text("UPDATE shoppers SET tiers = :none WHERE mail LIKE 'ann%'"), {"none": [] if kind == "text[]" else ""}
        )
    engine.dispose()
    project.meltano("run", "tap-postgres", "target-dotdigital")
    assert labels(sandbox)["ann@example.com"] is None


def lose_ledger(project: Project) -> None:
    for path in (project.folder / "var" / "sandbox").glob("ledger.db*"):
        path.unlink()


def refused_then_refreshed(project: Project, tap: str) -> None:
    """A ledger that is lost stops the next run, which Meltano shows; a full refresh puts it right."""
    lose_ledger(project)
    project.meltano("run", tap, "target-dotdigital", code=1)
    assert "never acknowledged" in project.said
    assert "--full-refresh" in project.said
    assert "Traceback" not in project.said
    project.meltano("run", "--full-refresh", tap, "target-dotdigital")


@pytest.mark.slow
def test_an_incremental_table_of_another_tap(project: Project, sandbox: Sandbox, ledger_url: str, tmp_path: Path) -> None:
    """The SDK's bookmarks, as Meltano hands them on, are the ones that the ledger acknowledged: on changed and on quiet days."""
    url, schema = address_of(ledger_url)
    engine = sa.create_engine(ledger_url)
    held = {mail: list(names) for mail, names in PEOPLE.items()}
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE shoppers (mail text PRIMARY KEY, tiers text[], updated_at timestamptz)"))
        rows = [{"mail": mail, "tiers": names} for mail, names in held.items()]
        connection.execute(sa.text("INSERT INTO shoppers VALUES (:mail, :tiers, '2026-11-01')"), rows)
    given = url.set(drivername="postgresql", password=url.password or "none")
    stream = f"{schema}-shoppers"
    project.invite(
        "extractors",
        "tap-postgres",
        capabilities=["catalog", "discover", "state"],
        config={"sqlalchemy_url": given.render_as_string(hide_password=False), "filter_schemas": [schema]},
        select=[f"{stream}.*"],
        metadata={stream: {"replication-method": "INCREMENTAL", "replication-key": "updated_at"}},
    )
    project.change(
        lambda file: file["plugins"]["loaders"][0].update(config={"email_property": "mail", "segments_property": "tiers"})
    )
    activate(project, sandbox, tmp_path, stream)

    def day(number: int, changes: dict[str, list[str]]) -> None:
        held.update(changes)
        with engine.begin() as connection:
            for mail, names in changes.items():
                values = {"mail": mail, "tiers": names, "day": f"2026-11-{number:02d}"}
                connection.execute(sa.text("UPDATE shoppers SET tiers = :tiers, updated_at = :day WHERE mail = :mail"), values)

    for number, changes in enumerate(({}, {}, {"bob@example.com": ["VIP"]}, {}), 2):
        day(number, changes)
        project.meltano("run", "tap-postgres", "target-dotdigital")
        assert labels(sandbox) == {mail: ";".join(sorted(names)) or None for mail, names in held.items()}
    day(9, {"ann@example.com": ["Sale"]})
    refused_then_refreshed(project, "tap-postgres")
    assert labels(sandbox) == {mail: ";".join(sorted(names)) or None for mail, names in held.items()}
    engine.dispose()


@pytest.mark.slow
def test_an_incremental_file_of_another_tap(project: Project, sandbox: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "loyalty.csv"
    files = [{"path": str(path), "format": "csv", "table_name": "loyalty", "primary_keys": ["e_mail"]}]
    project.invite("extractors", "tap-spreadsheets", capabilities=["catalog", "discover", "state"], config={"files": files})
    project.change(
        lambda file: file["plugins"]["loaders"][0].update(config={"email_property": "e_mail", "segments_property": "groups"})
    )
    activate(project, sandbox, tmp_path, "loyalty")

    def write(day: int, groups: str) -> None:
        path.write_text(f"e_mail,groups\nann@example.com,{groups}\nbob@example.com,VIP\n")
        os.utime(path, (1_793_000_000 + day * 86_400,) * 2)

    for day, groups in enumerate(("A", "B", "B")):
        if day < 2:
            write(day, groups)
        project.meltano("run", "tap-spreadsheets", "target-dotdigital")
        assert labels(sandbox) == {"ann@example.com": groups, "bob@example.com": "VIP"}
    write(9, "C")
    refused_then_refreshed(project, "tap-spreadsheets")
    assert labels(sandbox) == {"ann@example.com": "C", "bob@example.com": "VIP"}
