"""The stand-in and the target against dotdigital's published OpenAPI documents: every answer and every request."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from nosto_dotdigital_sandbox import Call, Fault, Sandbox, Shop
from openapi_schema_validator import OAS30Validator, OAS31Validator
from support.running import Pipeline, run_target, singer

CONTRACTS = Path(os.environ.get("CONTRACTS", Path(__file__).parents[3] / "shared" / "contracts")) / "dotdigital" / "openapi"

pytestmark = pytest.mark.skipif(
    not CONTRACTS.is_dir() and "CI" not in os.environ,
    reason=f"the published documents are not at {CONTRACTS.parent}; set CONTRACTS to where they are",
)


class Documents:
    """The published documents, and what they say of a call."""

    def __init__(self) -> None:
        """Read them."""
        self._operations: list[tuple[re.Pattern[str], str, dict[str, Any], dict[str, Any]]] = []
        for path in sorted(CONTRACTS.iterdir()):
            document = yaml.safe_load(path.read_text())
            for template, operations in document["paths"].items():
                # the fewest placeholders first, so that /import is no {identifier}
                pattern = re.compile(re.sub(r"\\{[^/]+\\}", "[^/]+", re.escape(template)))
                for method, operation in operations.items():
                    if isinstance(operation, dict):
                        self._operations.append((pattern, method.upper(), operation, document))
        self._operations.sort(key=lambda entry: entry[0].pattern.count("[^/]+"))

    def operation(self, call: Call) -> tuple[dict[str, Any], dict[str, Any]]:
        """Find the operation that a call is."""
        found = [(o, d) for pattern, method, o, d in self._operations if method == call.method and pattern.fullmatch(call.path)]
        assert found, f"no document knows {call.method} {call.path}"
        return found[0]

    def validate(self, call: Call) -> bool:
        """Hold a call against its document; say whether the document had a schema for the answer."""
        operation, document = self.operation(call)
        if "requestBody" in operation:
            _check(without_ids(json.loads(call.body)), operation["requestBody"]["content"]["application/json"]["schema"], document)
        else:
            assert call.body == b""
        answers = operation["responses"]
        status = str(call.status)
        if status not in answers:
            # the v2 documents name successes only; their errors are dotdigital.md's
            assert document["openapi"].startswith("3.1") or status == "405"
            assert "message" in json.loads(call.answer or b"{}")
            return False
        content = answers[status].get("content", {}).get("application/json")
        if content is None:
            return False
        _check(json.loads(call.answer or b""), content["schema"], document)
        return True


def without_ids(body: dict[str, Any]) -> dict[str, Any]:
    """Take contact ids out of an import, having checked them.

    The document says in one place that they are integers (`contactIdObject`, and its own example), and in another that every
    identifier besides address and number is text (`identifiers`): no request with an id can satisfy both.
    """
    for row in body.get("contacts", []):
        number = row["identifiers"].pop("contactId", 0)
        assert isinstance(number, int)
    return body


def _check(value: object, schema: dict[str, Any], document: dict[str, Any]) -> None:
    validator = OAS30Validator if document["openapi"].startswith("3.0") else OAS31Validator
    errors = [error.message for error in validator({**schema, "components": document["components"]}).iter_errors(value)]
    assert not errors, errors[:3]


@pytest.fixture(scope="module")
def documents() -> Documents:
    return Documents()


def test_every_call_of_an_eventful_week(documents: Documents, pipeline: Pipeline, sandbox: Sandbox) -> None:
    shop = Shop(300, invalid=1)
    sandbox.account.add_contact("o'neil+x@example.com", data_fields={"FIRSTNAME": "A"}, status="unsubscribed")
    sandbox.account.programs.append({"id": 1, "name": "P", "status": "Active", "dateCreated": "2026-01-01T09:00:00Z"})
    sandbox.account.refuse = lambda email: "invalidDomain" if email.startswith("shopper0000011") else None
    sandbox.account.outcomes = ["Failed"]
    sandbox.account.busy_imports = 0
    for day in range(3):
        pipeline.export(shop.export(day), day)
        pipeline.run()
    pipeline.target |= {"address_book_id": 99}
    pipeline.load(singer([]))
    pipeline.target |= {"api_password": "wrong"}
    pipeline.load(singer([]))
    run_target(pipeline.target, "", pipeline.time, check=True)
    sandbox.account.busy_imports = 25
    calls = sandbox.journal.calls("dotdigital") + sandbox.journal.calls("elsewhere")
    checked = [documents.validate(call) for call in calls if call.status not in {401, 403}]
    assert sum(checked) > 20
    assert {call.method for call in calls} == {"GET", "PUT", "POST"}


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/contacts/v3?limit=2&data-fields=[[ALL]]&include=lists|channelProperties", None, 200),
        ("GET", "/contacts/v3?limit=0", None, 400),
        ("GET", "/contacts/v3/email/a%2Bb%40example.com", None, 200),
        ("GET", "/contacts/v3/email/nobody%40example.com", None, 404),
        ("GET", "/contacts/v3/import/5", None, 400),
        ("GET", "/contacts/v3/import/d7de900d-d337-43f6-b1e1-c8ec73e1a434", None, 404),
        (
            "PUT",
            "/contacts/v3/import",
            {"contacts": [{"matchIdentifier": "email", "identifiers": {"email": "a@example.com"}}]},
            429,
        ),
        ("GET", "/v2/address-books?select=1&skip=1", None, 200),
        ("GET", "/v2/address-books/5", None, 404),
        ("POST", "/v2/data-fields", {"name": "FIRSTNAME", "type": "String"}, 400),
        ("GET", "/v2/programs?select=0", None, 400),
        ("GET", "/v2/account-info", None, 200),
    ],
)
def test_each_answer(documents: Documents, method: str, path: str, body: object, status: int) -> None:
    import requests  # noqa: PLC0415

    with Sandbox() as sandbox:
        sandbox.account.add_contact("a+b@example.com", data_fields={"FIRSTNAME": "A"}, lists=set(sandbox.account.books))
        sandbox.account.busy_imports = 25
        answer = requests.request(method, sandbox.home_url + path, json=body, auth=(sandbox.user, sandbox.password), timeout=9)
        assert answer.status_code == status
        call = sandbox.journal.calls("dotdigital")[0]
        if body is None or status != 400:
            documents.validate(call)


def test_a_validation_that_fails_is_seen(documents: Documents, pipeline: Pipeline, sandbox: Sandbox) -> None:
    from nosto_dotdigital_sandbox.web import Response  # noqa: PLC0415

    fault = Fault("rewrite", method="GET", path="data-fields", rewrite=lambda _: Response.of([{"name": "X", "type": "Text"}]))
    sandbox.faults.add(fault)
    pipeline.load(singer([]))
    (call,) = sandbox.journal.calls("dotdigital", "GET", "/v2/data-fields")
    call.answer = b'[{"name": "X", "type": "Text"}]'
    with pytest.raises(AssertionError):
        documents.validate(call)
