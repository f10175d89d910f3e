"""Each switch of the sandbox changes what its sentence says, and nothing else."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from nosto_dotdigital_sandbox import Contact, Sandbox
from nosto_dotdigital_sandbox.deviations import DOTDIGITAL, LIVE, NOSTO
from nosto_dotdigital_sandbox.rules import replaced

FIELD = "LABELS"
# switch -> observations that it changes, with what is seen then
EFFECTS: dict[str, dict[str, object]] = {
    "account_info_names_wrong_region": {"region answers": 403},
    "contacts_not_readable": {"reads contacts": [403, 403]},
    "imports_not_permitted": {"import accepted": 403},
    "programs_hidden": {"reads programs": 403},
    "no_rate_limit_headers": {"rate-limit headers": []},
    "creates_public": {"visibility": ["Public", "Public"]},
    "renames_fields": {"name of the data field": "X_LABELS"},
    "new_contacts_pending": {"new contact": ["pendingOptIn", "Unknown"]},
    "new_contacts_single_opt_in": {"new contact": ["subscribed", "Single"]},
    "resets_status": {"unsubscribed contact": ["subscribed", "VIP"]},
    "resubscribes": {"suppressed contact": ["subscribed", "VIP"]},
    "suppressed_rejected": {"suppressed contact": ["suppressed", None]},
    "resets_opt_in_type": {"opt-in type": "Unknown"},
    "resets_preferences": {"preferences": {}},
    "blanks_other_fields": {"other data fields": {"LABELS": "VIP"}, "field left out": None},
    "ignores_lists": {"address books": ["Newsletter"]},
    "replaces_lists": {"address books": ["Shop"]},
    "ignores_null": {"cleared": "Old"},
    "rejects_null_on_new": {"null for a new contact": ["apiSchemaViolation"]},
    "absent_field_clears": {"field left out": None},
    "cuts_at_255": {"lengths": [255, 255, 255, 255]},
    "rejects_over_255": {"lengths": [255, "apiSchemaViolation", "apiSchemaViolation", "apiSchemaViolation"]},
    "fails_import_over_255": {"lengths": [255, "Failed", "Failed", "Failed"]},
    "trims_values": {"text": 'Café "x", \U0001f45f'},
    "escapes_quotes": {"text": " Café &quot;x&quot;, \U0001f45f "},
    "drops_emoji": {"text": ' Café "x",  '},
    "capitals_refused": {"lower case for capitals": "400"},
    "distinguishes_capitals": {"contacts of one address": 2, "duplicates": [[], 3]},
    "imports_duplicates_silently": {"duplicates": [[], 1]},
    "unknown_id_creates": {"unknown ID": [[], 1]},
    "unknown_id_ignored": {"unknown ID": [[], 0]},
    "reuses_ids": {"IDs of the report": [False, False]},
    "invalid_address_fails_import": {"invalid address": ["Failed", [], 0]},
    "invalid_address_accepted": {"invalid address": ["Finished", [], 2]},
    "unknown_field_ignored": {"unknown data field": []},
    "report_omits_rows": {"rows of the report": [1, 1]},
    "report_without_ids": {"IDs of the report": [None, None]},
    "read_back_lags": {"visible": [False, False, False, True]},
    "pages_repeat": {"pages": [True, True]},
    "paging_stops_early": {"pages": [False]},
    "include_lists_missing": {"lists are included": False},
    "list_filter_ignored": {"other contacts under the filter": True},
    "created_filter_ignored": {"new and old contacts under the filter": [True, True]},
    "created_filter_shows_nothing": {"new and old contacts under the filter": [False, False]},
}


@dataclass
class Client:
    """Calls a sandbox as an API client does, and looks at its account from inside."""

    sandbox: Sandbox

    def call(self, method: str, path: str, body: object = None) -> requests.Response:
        url = path if "://" in path else self.sandbox.home_url + path
        return requests.request(method, url, json=body, auth=(self.sandbox.user, self.sandbox.password), timeout=9)

    def send(self, *rows: dict[str, Any]) -> dict[str, Any]:
        accepted = self.call("PUT", "/contacts/v3/import", {"mergeOption": "overwrite", "contacts": rows})
        if accepted.status_code != 202:
            return {"status": str(accepted.status_code), "created": [], "updated": [], "failures": []}
        self.sandbox.account.settle()
        status: dict[str, Any] = self.call("GET", f"/contacts/v3/import/{accepted.json()['importId']}").json()
        return {"created": [], "updated": [], "failures": [], **status}

    def contact(self, email: str) -> Contact:
        return self.sandbox.account.snapshot()[email]


def row(email: str, value: str | None = "VIP", lists: tuple[int, ...] = (), **fields: str | None) -> dict[str, Any]:
    return {
        "matchIdentifier": "email",
        "identifiers": {"email": email},
        "dataFields": fields or {FIELD: value},
        **({"lists": list(lists)} if lists else {}),
    }


def codes(report: dict[str, Any]) -> list[str]:
    return [failure["failures"][0]["failureCode"] for failure in report["failures"]]


def observe_login(client: Client) -> dict[str, object]:
    info = client.call("GET", client.sandbox.api_url + "/v2/account-info").json()
    region = next(one["value"] for one in info["properties"] if one["name"] == "ApiEndpoint")
    books = client.call("GET", region.rstrip("/") + "/v2/address-books")
    contact = client.sandbox.account.add_contact("reader@example.com")
    reads = [client.call("GET", path).status_code for path in ("/contacts/v3", f"/contacts/v3/contactId/{contact.id}")]
    accepted = client.call("PUT", "/contacts/v3/import", {"contacts": [row("importer@example.com", FIRSTNAME="A")]})
    limits = sorted(name for name in client.call("GET", "/v2/data-fields").headers if name.startswith("X-RateLimit"))
    return {
        "region answers": books.status_code,
        "reads contacts": reads,
        "import accepted": accepted.status_code,
        "reads programs": client.call("GET", "/v2/programs").status_code,
        "rate-limit headers": limits,
    }


def observe_creation(client: Client) -> dict[str, object]:
    book = client.call("POST", "/v2/address-books", {"name": "Shop", "visibility": "Private"}).json()
    field = client.call("POST", "/v2/data-fields", {"name": FIELD, "type": "String", "visibility": "Private"}).json()
    if field["name"] != FIELD:
        # the other observations are not about the name
        client.sandbox.account.fields[FIELD] = client.sandbox.account.fields.pop(field["name"])
        client.sandbox.account.fields[FIELD].name = FIELD
    return {"visibility": [book["visibility"], field["visibility"]], "name of the data field": field["name"]}


def observe_contacts(client: Client) -> dict[str, object]:
    account = client.sandbox.account
    newsletter, shop = account.book_named("Newsletter"), account.book_named("Shop")
    assert newsletter is not None
    assert shop is not None
    client.send(row("new@example.com"))
    new = client.contact("new@example.com")
    seen: dict[str, object] = {"new contact": [new.status, new.opt_in_type]}
    for status in ("unsubscribed", "suppressed"):
        account.add_contact(f"{status}@example.com", status=status)
        client.send(row(f"{status}@example.com"))
        contact = client.contact(f"{status}@example.com")
        seen[f"{status} contact"] = [contact.status, contact.data_fields.get(FIELD)]
    old = {"FIRSTNAME": "Ada", FIELD: "Old"}
    account.add_contact("a@example.com", opt_in_type="Double", preferences={7: True}, lists={newsletter.id}, data_fields=dict(old))
    client.send(row("a@example.com", lists=(shop.id,)))
    contact = client.contact("a@example.com")
    client.sandbox.account.add_contact("b@example.com", data_fields=dict(old))
    client.send(row("b@example.com", FIRSTNAME="Grace"))
    client.sandbox.account.add_contact("c@example.com", data_fields={FIELD: "Old"})
    client.send(row("c@example.com", None))
    return seen | {
        "opt-in type": contact.opt_in_type,
        "preferences": contact.preferences,
        "other data fields": contact.data_fields,
        "address books": sorted(account.books[number].name for number in contact.lists),
        "field left out": client.contact("b@example.com").data_fields.get(FIELD),
        "cleared": client.contact("c@example.com").data_fields.get(FIELD),
        "null for a new contact": codes(client.send(row("null@example.com", None))),
    }


def observe_values(client: Client) -> dict[str, object]:
    lengths: list[object] = []
    for length in (255, 256, 1000, 1001):
        report = client.send(row(f"length{length}@example.com", "x" * length))
        found = client.sandbox.account.snapshot().get(f"length{length}@example.com")
        lengths.append(len(found.data_fields[FIELD]) if found else (codes(report) or [report["status"]])[0])
    client.send(row("text@example.com", ' Café "x", \U0001f45f '))
    return {"lengths": lengths, "text": client.contact("text@example.com").data_fields[FIELD]}


def observe_identity(client: Client) -> dict[str, object]:
    account = client.sandbox.account
    account.add_contact("Ada@Example.com")
    written = client.send(row("ada@example.com"))
    same = [email for email in account.snapshot() if email.lower() == "ada@example.com"]
    twice = client.send(row("twice@example.com", "A"), row("Twice@example.com", "B"), row("TWICE@example.com", "C"))
    unknown = {"matchIdentifier": "contactId", "identifiers": {"contactId": 1}, "dataFields": {FIELD: "VIP"}}
    report = client.send(unknown)
    return {
        "contacts of one address": len(same),
        "lower case for capitals": written["status"],
        "duplicates": [codes(twice), sum(email.lower() == "twice@example.com" for email in account.snapshot())],
        "unknown ID": [codes(report), len(report["created"])],
    }


def observe_reports(client: Client) -> dict[str, object]:
    account = client.sandbox.account
    account.add_contact("old1@example.com")
    account.add_contact("old2@example.com")
    report = client.send(*(row(f"{name}@example.com") for name in ("new1", "new2", "old1", "old2")))
    right = [
        None if "contactId" not in one else account.contacts[one["contactId"]].email == one["identifiers"]["email"]
        for one in report["created"][:1] + report["updated"][:1]
    ]
    bad = client.send(row("no address"), row("neighbour@example.com"))
    added = sum(email in {"no address", "neighbour@example.com"} for email in account.snapshot())
    return {
        "rows of the report": [len(report["created"]), len(report["updated"])],
        "IDs of the report": right,
        "invalid address": [bad["status"], codes(bad), added],
        "unknown data field": codes(client.send(row("field@example.com", UNKNOWN="A"))),
    }


def observe_reads(client: Client) -> dict[str, object]:
    account = client.sandbox.account
    shop = account.book_named("Shop")
    assert shop is not None
    for number in range(3):
        account.add_contact(f"page{number}@example.com", lists={shop.id})
    account.add_contact("old@example.com").created = "2020-01-01T00:00:00Z"
    account.outdated = None
    client.send(row("visible@example.com"))
    visible = [client.call("GET", "/contacts/v3/email/visible%40example.com").status_code == 200 for _ in range(4)]
    # with the marker of the first page, to tell a page that repeats from the next one
    pages, marker = [], ""
    for _ in range(2):
        page = client.call("GET", f"/contacts/v3?limit=2{marker}").json()
        pages.append([one["contactId"] for one in page.get("_items", [])])
        if "next" not in page.get("_links", {}):
            break
        marker = f"&marker={page['_links']['next']['marker']}"
    items = client.call("GET", f"/contacts/v3?~listId={shop.id}&include=lists").json().get("_items", [])
    recent = client.call("GET", "/contacts/v3?~created=gte::2021-12-17T00:00:00Z").json().get("_items", [])
    created = {one["identifiers"].get("email") for one in recent}
    return {
        "visible": visible,
        "pages": [one == pages[0] for one in pages] if len(pages) > 1 else [False],
        "lists are included": all("lists" in one for one in items),
        "other contacts under the filter": any(not one["identifiers"]["email"].startswith(("page", "a@")) for one in items),
        "new and old contacts under the filter": [f"{name}@example.com" in created for name in ("page0", "old")],
    }


def observe(switch: str | None) -> dict[str, object]:
    """Look at everything that a switch may change."""
    with Sandbox() as sandbox:
        client = Client(sandbox)
        if switch is not None:
            sandbox.account.deviations.add(switch)
        seen = observe_login(client) | observe_creation(client)
        if seen["import accepted"] == 202:
            for look in (observe_contacts, observe_values, observe_identity, observe_reports):
                seen |= look(client)
        if seen["reads contacts"] == [200, 200] and seen["import accepted"] == 202:
            seen |= observe_reads(client)
        return seen


@pytest.fixture(scope="module")
def documented() -> dict[str, object]:
    return observe(None)


def test_without_a_switch_the_service_follows_its_documents(documented: dict[str, object]) -> None:
    assert documented["new contact"] == ["subscribed", "Unknown"]
    assert documented["address books"] == ["Newsletter", "Shop"]
    assert documented["lengths"] == [255, 256, 1000, "apiSchemaViolation"]
    assert documented["duplicates"] == [["duplicateIdentifier"] * 2, 1]
    assert documented["unknown ID"] == [["invalidContactId"], 0]
    assert documented["visible"] == [True] * 4
    assert documented["new and old contacts under the filter"] == [True, False]


@pytest.mark.parametrize("switch", EFFECTS)
def test_a_switch_changes_what_its_sentence_says_and_nothing_else(switch: str, documented: dict[str, object]) -> None:
    seen = observe(switch)
    assert {name: value for name, value in seen.items() if value != documented[name]} == EFFECTS[switch]


def test_every_switch_has_a_sentence_a_replacement_and_a_test() -> None:
    assert set(DOTDIGITAL) | set(LIVE) <= replaced()
    assert set(DOTDIGITAL) == set(EFFECTS)
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
