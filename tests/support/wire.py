"""What may be on the wire, as traps.md says; every test that has a sandbox is held to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nosto_dotdigital_sandbox import Sandbox

ROW = {"matchIdentifier", "identifiers", "lists", "dataFields"}
READS = ("/v2/account-info", "/v2/address-books", "/v2/data-fields", "/v2/programs", "/contacts/v3")


def assert_allowed(sandbox: Sandbox, fields: tuple[str, ...] = ()) -> None:
    """Hold all traffic so far against the list of what may be said.

    Args:
        sandbox: the stand-in.
        fields: data fields that the settings name besides NOSTOSEGMENT.
    """
    for call in [*sandbox.journal.calls("dotdigital"), *sandbox.journal.calls("elsewhere")]:
        assert call.method in {"GET", "PUT", "POST"}, "nothing is deleted, no single contact is written"
        assert "=" not in call.path
        assert call.path.startswith(READS)
        if call.method == "POST":
            assert call.path in {"/v2/address-books", "/v2/data-fields"}
            assert set(call.json()) <= {"name", "type", "visibility"}
            assert call.json()["visibility"] == "Private"
        if call.method == "PUT":
            assert call.path == "/contacts/v3/import"
            assert_import(call.json(), fields)
    for call in sandbox.journal.calls("nosto"):
        if call.path.endswith("graphql"):
            assert "?" not in call.target
        assert call.headers.get("x-nosto-ignore") == "True"
        assert call.headers.get("user-agent")
        assert "bot" not in call.headers["user-agent"].lower()


def assert_import(body: dict[str, object], fields: tuple[str, ...] = ()) -> None:
    """Hold one import body against the list of what may be said."""
    assert set(body) == {"mergeOption", "contacts"}
    assert body["mergeOption"] == "overwrite"
    rows = body["contacts"]
    assert isinstance(rows, list)
    addresses = []
    for row in rows:
        assert set(row) <= ROW
        assert set(row["identifiers"]) == {row["matchIdentifier"]}
        assert row["matchIdentifier"] in {"email", "contactId"}
        for name in row["dataFields"]:
            assert name.upper() in {"NOSTOSEGMENT", *(field.upper() for field in fields)}
        addresses.append(next(iter(row["identifiers"].values())))
    assert len(addresses) == len(set(addresses)), "no contact twice in one import"


def contacts_sent(sandbox: Sandbox) -> list[str | int]:
    """Give the identifiers of all rows in accepted imports, in order."""
    return [
        next(iter(row["identifiers"].values()))
        for call in sandbox.journal.imports()
        if call.status == 202
        for row in call.json()["contacts"]
    ]
