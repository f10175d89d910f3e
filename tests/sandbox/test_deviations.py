"""The switches of the sandbox that neither the rehearsal nor a sync depends on; the others are shown by both of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from nosto_dotdigital_sandbox import Sandbox
from nosto_dotdigital_sandbox.deviations import DOTDIGITAL, LIVE, NOSTO
from nosto_dotdigital_sandbox.rules import replaced
from support.deviation_table import DEVIATIONS

FIELD = "LABELS"
# switch -> observations that it changes, with what is seen then
EFFECTS: dict[str, dict[str, object]] = {
    "programs_hidden": {"reads programs": 403},
    "no_rate_limit_headers": {"rate-limit headers": []},
    "absent_field_clears": {"field left out": None},
    "imports_duplicates_silently": {"duplicates": [[], 1]},
    "unknown_field_ignored": {"unknown data field": []},
    "list_filter_ignored": {"under the filter": ["other@example.com", "twice@example.com"]},
}


@dataclass
class Client:
    """Calls a sandbox as an API client does, and looks at its account from inside."""

    sandbox: Sandbox

    def call(self, method: str, path: str, body: object = None) -> requests.Response:
        return requests.request(
            method, self.sandbox.home_url + path, json=body, auth=(self.sandbox.user, self.sandbox.password), timeout=9
        )

    def send(self, *rows: dict[str, Any]) -> dict[str, Any]:
        accepted = self.call("PUT", "/contacts/v3/import", {"mergeOption": "overwrite", "contacts": rows})
        self.sandbox.account.settle()
        status: dict[str, Any] = self.call("GET", f"/contacts/v3/import/{accepted.json()['importId']}").json()
        return status


def row(email: str, *lists: int, **fields: str) -> dict[str, Any]:
    return {
        "matchIdentifier": "email",
        "identifiers": {"email": email},
        "dataFields": fields,
        **({"lists": list(lists)} if lists else {}),
    }


def codes(report: dict[str, Any]) -> list[str]:
    return [failure["failures"][0]["failureCode"] for failure in report.get("failures", [])]


def observe(switch: str | None) -> dict[str, object]:
    """Look at everything that these switches may change."""
    with Sandbox() as sandbox:
        client, account = Client(sandbox), sandbox.account
        client.call("POST", "/v2/data-fields", {"name": FIELD, "type": "String", "visibility": "Private"})
        if switch is not None:
            account.deviations.add(switch)
        book = account.add_book("Shop")
        account.add_contact("other@example.com", data_fields={FIELD: "Old"})
        client.send(row("other@example.com", FIRSTNAME="Grace"))
        twice = client.send(
            row("twice@example.com", book.id, LABELS="A"),
            row("Twice@example.com", LABELS="B"),
            row("TWICE@example.com", LABELS="C"),
        )
        emails = account.snapshot()
        headers = client.call("GET", "/v2/data-fields").headers
        listed = client.call("GET", f"/contacts/v3?~listId={book.id}").json()["_items"]
        return {
            "reads programs": client.call("GET", "/v2/programs").status_code,
            "rate-limit headers": sorted(name for name in headers if name.startswith("X-RateLimit")),
            "field left out": emails["other@example.com"].data_fields.get(FIELD),
            "duplicates": [codes(twice), sum(email.lower() == "twice@example.com" for email in emails)],
            "unknown data field": codes(client.send(row("other@example.com", UNKNOWN="A"))),
            "under the filter": sorted(contact["identifiers"]["email"] for contact in listed),
        }


@pytest.fixture(scope="module")
def documented() -> dict[str, object]:
    return observe(None)


def test_without_a_switch_the_service_follows_its_documents(documented: dict[str, object]) -> None:
    assert documented["duplicates"] == [["duplicateIdentifier"] * 2, 1]
    assert documented["under the filter"] == ["twice@example.com"]


@pytest.mark.parametrize("switch", EFFECTS)
def test_a_switch_changes_what_its_sentence_says_and_nothing_else(switch: str, documented: dict[str, object]) -> None:
    seen = observe(switch)
    assert {name: value for name, value in seen.items() if value != documented[name]} == EFFECTS[switch]


def test_every_switch_has_a_sentence_a_replacement_and_a_test() -> None:
    assert set(DOTDIGITAL) | set(LIVE) <= replaced()
    # the rehearsal refutes an assumption, or stops
    seen = {switch for switch, expected in DEVIATIONS.items() if expected.refutes or expected.stops}
    assert set(DOTDIGITAL) == seen | set(EFFECTS)
    assert not seen & set(EFFECTS)
    assert all(sentence.endswith(".") for sentence in DOTDIGITAL.values())
    assert not (set(DOTDIGITAL) | set(LIVE)) & set(NOSTO), "the command of the sandbox has one option for both"


def test_an_unknown_switch_is_refused_and_a_known_one_can_be_turned_off() -> None:
    with Sandbox() as sandbox:
        deviations = sandbox.account.deviations
        with pytest.raises(ValueError, match="There is no deviation 'ignores_nul'"):
            deviations |= {"ignores_nul"}
        deviations.update(["ignores_null", "ignores_lists"])
        deviations.discard("ignores_null")
        assert set(deviations) == {"ignores_lists"}
        deviations.clear()
        assert not deviations


def test_a_read_that_never_shows_an_import() -> None:
    with Sandbox() as sandbox:
        sandbox.account.deviations.add("read_back_lags")
        sandbox.account.reads_behind = math.inf
        client = Client(sandbox)
        client.send(row("a@example.com", FIRSTNAME="A"))
        assert {client.call("GET", "/contacts/v3/email/a%40example.com").status_code for _ in range(9)} == {404}
