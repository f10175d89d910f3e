"""Every answer of the sandbox and every request of the target, against our own schemas and dotdigital's published OpenAPI documents.

Our own schemas are checked on every machine. The published documents are not part of the repository: `CONTRACTS` names the folder
that holds them. If it is not set and they are not beside the repository either, their tests are skipped and say so.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from dotdigital_schemas import OPERATIONS, Operation, OwnSchemas, Schema, check
from nosto_dotdigital_sandbox import Call, Fault, Sandbox, Shop
from openapi_schema_validator import OAS30Validator, OAS31Validator
from support.running import Pipeline, run_target, singer

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(os.environ.get("CONTRACTS", Path(__file__).parents[3] / "shared" / "contracts")) / "dotdigital"
# dotdigital's own examples -> operation whose answer each of them is
EXAMPLES = {
    "v2_account_info_200_Result.json": ("GET", "/v2/account-info", 200),
    "v2_address_book_get_200_Result.json": ("GET", "/v2/address-books/{id}", 200),
    "v2_address_books_get_200_Result.json": ("GET", "/v2/address-books", 200),
    "v2_address_books_post_200_Result.json": ("POST", "/v2/address-books", 200),
    "v2_data_fields_get_200_Result.json": ("GET", "/v2/data-fields", 200),
    "v2_data_fields_post_201_Result.json": ("POST", "/v2/data-fields", 201),
    "v2_programs_200_Result.json": ("GET", "/v2/programs", 200),
    "v3_contact_get_400.json": ("GET", "/contacts/v3/{identifier}/{value}", 400),
    "v3_contact_get_404.json": ("GET", "/contacts/v3/{identifier}/{value}", 404),
    "v3_import_202.json": ("PUT", "/contacts/v3/import", 202),
    "v3_import_400_badJson.json": ("PUT", "/contacts/v3/import", 400),
    "v3_import_429_tooManyActiveImports.json": ("PUT", "/contacts/v3/import", 429),
    "v3_import_status_200_finished_from_schema_examples.json": ("GET", "/contacts/v3/import/{importId}", 200),
    "v3_import_status_400_invalidId.json": ("GET", "/contacts/v3/import/{importId}", 400),
    "v3_import_status_404.json": ("GET", "/contacts/v3/import/{importId}", 404),
}


def published() -> Path:
    """Return the folder with the published documents; skip the test if there is none and nobody asked for it."""
    if not FOLDER.is_dir():
        if "CONTRACTS" in os.environ:
            pytest.fail(f"CONTRACTS is set, and there is no folder {FOLDER}")
        pytest.skip("dotdigital's published documents are not here; set CONTRACTS to the folder that holds them")
    return FOLDER


class PublishedDocuments:
    """Checks calls against the published documents."""

    def __init__(self) -> None:
        """Read the documents."""
        self._operations: list[tuple[re.Pattern[str], str, dict[str, Any], dict[str, Any]]] = []
        for path in sorted((published() / "openapi").iterdir()):
            document = yaml.safe_load(path.read_text())
            for template, operations in document["paths"].items():
                # the fewest placeholders first, so that /import is no {identifier}
                pattern = re.compile(re.sub(r"\\{[^/]+\\}", "[^/]+", re.escape(template)))
                for method, operation in operations.items():
                    if isinstance(operation, dict):
                        self._operations.append((pattern, method.upper(), operation, document))
        self._operations.sort(key=lambda entry: entry[0].pattern.count("[^/]+"))

    def described(self, operation: Operation) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what the documents say of an operation, and the document that says so."""
        found = [
            (theirs, document)
            for pattern, method, theirs, document in self._operations
            if method == operation.method and pattern == operation.pattern
        ]
        assert found, f"no document knows {operation.method} {operation.template}"
        return found[0]

    def operation(self, call: Call) -> tuple[dict[str, Any], dict[str, Any]]:
        """Find the operation of a call, and the document that describes it."""
        found = [(o, d) for pattern, method, o, d in self._operations if method == call.method and pattern.fullmatch(call.path)]
        assert found, f"no document knows {call.method} {call.path}"
        return found[0]

    def validate(self, call: Call) -> bool:
        """Check a call's request and answer; return whether the document has a schema for the answer."""
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
        _check(without_null_summary(json.loads(call.answer or b"")), content["schema"], document)
        return True


def without_null_summary(answer: Any) -> Any:
    """Remove the summary of an import that is not finished: it is null in the live service (contracts/dotdigital.md 13.6)."""
    return {name: value for name, value in answer.items() if name != "summary" or value} if isinstance(answer, dict) else answer


def without_ids(body: dict[str, Any]) -> dict[str, Any]:
    """Check the contact IDs of an import, and remove them.

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


Documents = OwnSchemas | PublishedDocuments


@pytest.fixture(scope="module", params=[OwnSchemas, PublishedDocuments])
def documents(request: pytest.FixtureRequest) -> Documents:
    made: Documents = request.param()
    return made


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
            {
                "mergeOption": "overwrite",
                "contacts": [{"matchIdentifier": "email", "identifiers": {"email": "a@example.com"}, "dataFields": {}}],
            },
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


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: f"{one.method} {one.template}")
def test_own_schemas_agree_with_the_published_ones(operation: Operation) -> None:
    theirs, document = PublishedDocuments().described(operation)
    if operation.request is None:
        assert "requestBody" not in theirs
    else:
        body = theirs["requestBody"]["content"]["application/json"]["schema"]
        assert list(disagreements(operation.request, flat(body, document), document, is_request=True)) == []
    for status, ours in operation.answers.items():
        content = theirs["responses"].get(str(status), {}).get("content", {}).get("application/json")
        if ours is not None and content is not None:
            assert list(disagreements(ours, flat(content["schema"], document), document, is_request=False)) == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_published_examples_follow_our_schemas(name: str) -> None:
    method, template, status = EXAMPLES[name]
    (operation,) = (one for one in OPERATIONS if (one.method, one.template) == (method, template))
    schema = operation.answer(status)
    assert schema is not None
    check(json.loads((published() / "examples" / name).read_text(encoding="utf-8")), schema)


def flat(schema: Schema, document: dict[str, Any]) -> Schema:
    """Resolve references and merge `allOf`, one level deep."""
    if "$ref" in schema:
        return flat(document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], document)
    merged: Schema = {name: value for name, value in schema.items() if name != "allOf"}
    for part in schema.get("allOf", []):
        one = flat(part, document)
        for name, value in one.get("properties", {}).items():
            properties = merged.setdefault("properties", {})
            properties[name] = {"allOf": [properties[name], value]} if name in properties else value
        merged.setdefault("required", []).extend(one.get("required", []))
        merged |= {name: value for name, value in one.items() if name not in {"properties", "required"}}
    return merged


def disagreements(ours: Schema, theirs: Schema, document: dict[str, Any], *, is_request: bool, at: str = "$") -> Iterator[str]:
    """Compare a schema of ours with a published one.

    A request of ours must be one that they take: it may only be narrower. An answer that they give must be one that we read:
    ours may only be wider, and may require only what they promise (some documents promise nothing: then nothing is compared).
    """
    narrow, wide = (ours, theirs) if is_request else (theirs, ours)
    for word in ("type", "enum"):
        if word in narrow and word in wide and not _set(narrow[word]) <= _set(wide[word]):
            yield f"{at}: {word} {narrow[word]} is more than {wide[word]}"
    for word, sign in (("maxLength", 1), ("maxItems", 1), ("minItems", -1), ("minimum", -1)):
        if is_request and word in theirs and (word not in ours or sign * ours[word] > sign * theirs[word]):
            yield f"{at}: {word} {ours.get(word)} is wider than {theirs[word]}"
    if "required" in theirs and not _set(wide.get("required", [])) <= _set(narrow.get("required", [])):
        yield f"{at}: required {ours.get('required')}, and there {theirs['required']}"
    known = theirs.get("properties", {})
    for name, schema in ours.get("properties", {}).items():
        if name in known:
            inner = flat(known[name], document)
            yield from disagreements(schema, inner, document, is_request=is_request, at=f"{at}.{name}")
        elif known:
            yield f"{at}: they have no property {name}"
    if "items" in ours and "items" in theirs:
        inner = flat(theirs["items"], document)
        yield from disagreements(ours["items"], inner, document, is_request=is_request, at=f"{at}[]")


def _set(value: object) -> set[object]:
    return set(value) if isinstance(value, list) else {value}
