"""What this project relies on of dotdigital's API, as JSON Schemas in our own words: each request that we send, each answer that we read.

Every machine checks the sandbox's answers and the target's requests against them. Where dotdigital's published documents are
present, `test_contracts.py` checks the schemas themselves. All of them are closed: what a schema does not name must not be there.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from openapi_schema_validator import OAS31Validator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nosto_dotdigital_sandbox import Call

Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
CONTACT_ID: Schema = {"type": "integer", "minimum": 0}


def one_of(*values: str) -> Schema:
    """Describe a text that is one of these."""
    return {"type": "string", "enum": list(values)}


def array(items: Schema, **bounds: int) -> Schema:
    """Describe a list."""
    return {"type": "array", "items": items, **bounds}


def closed(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None, **bounds: int) -> Schema:
    """Describe an object that holds these properties and no other."""
    properties = {**required, **(optional or {})}
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False, **bounds}


# Version 2
MESSAGE = closed({"message": STRING})
ACCOUNT_INFO = closed({"id": INTEGER, "properties": array(closed({"name": STRING, "type": STRING, "value": STRING}))})
ADDRESS_BOOK = closed({"id": INTEGER, "name": STRING, "visibility": one_of("Private", "Public"), "contacts": INTEGER})
NEW_ADDRESS_BOOK = closed({"name": {"type": "string", "minLength": 1, "maxLength": 128}, "visibility": one_of("Private")})
FIELD_TYPE = one_of("String", "Numeric", "Date", "Boolean")
DATA_FIELD = closed({"name": STRING, "type": FIELD_TYPE, "visibility": one_of("Public", "Private"), "defaultValue": {}})
# never a default value: it would show up wherever a contact's own value has been cleared
NEW_DATA_FIELD = closed(
    {
        "name": {"type": "string", "maxLength": 20, "pattern": "^[A-Za-z0-9_-]{1,20}$"},
        "type": one_of("String", "Date"),
        "visibility": one_of("Private"),
    }
)
PROGRAM = closed(
    {"id": INTEGER, "name": STRING, "status": one_of("Draft", "Active", "Deactivated", "ReadOnly"), "dateCreated": STRING}
)

# Version 3
ERROR = closed({"errorCode": STRING, "description": STRING}, {"details": array(closed({"item": STRING, "description": STRING}))})
# one row of an import: no status, no opt-in type, no preference, no consent record
ROW = closed(
    {
        "matchIdentifier": one_of("email", "contactId"),
        "identifiers": closed({}, {"email": STRING, "contactId": CONTACT_ID}, minProperties=1, maxProperties=1),
        # null clears a value
        "dataFields": {"type": "object", "additionalProperties": {"type": ["string", "null"]}},
    },
    {"lists": array(INTEGER, minItems=1, maxItems=100)},
)
IMPORT = closed({"mergeOption": one_of("overwrite"), "contacts": array(ROW, minItems=1)})
IMPORT_ACCEPTED = closed({"importId": STRING})
IDENTIFIERS: Schema = {"type": "object", "additionalProperties": STRING}
# what was sent as a number comes back as one
SENT_IDENTIFIERS: Schema = {"type": "object", "additionalProperties": {"type": ["string", "integer"]}}
WRITTEN = closed({"contactId": CONTACT_ID, "identifiers": IDENTIFIERS})
REJECTED = closed(
    {
        "matchIdentifier": STRING,
        "identifiers": SENT_IDENTIFIERS,
        "failures": array(closed({"failureCode": STRING, "description": STRING}), minItems=1),
    },
    {"contactId": CONTACT_ID},
)
COUNTS = ("newContacts", "updatedContacts", "globallySuppressed", "invalidEntries", "duplicateIdentifiers")
IMPORT_STATUS = closed(
    {
        "importId": STRING,
        "status": one_of("Finished", "NotFinished", "RejectedByWatchdog", "Failed", "ExceedsAllowedContactLimit"),
    },
    {
        "summary": {"anyOf": [closed({}, dict.fromkeys(COUNTS, INTEGER)), {"type": "null"}]},
        "created": array(WRITTEN),
        "updated": array(WRITTEN),
        "failures": array(REJECTED),
    },
)
CONTACT = closed(
    {
        "contactId": CONTACT_ID,
        "status": one_of("subscribed", "unsubscribed", "pendingOptIn", "deleted", "suppressed", "binned", "noSubscription"),
        "created": STRING,
        "updated": STRING,
        "identifiers": IDENTIFIERS,
    },
    {
        "dataFields": {"type": "object", "additionalProperties": True},
        "channelProperties": closed({}, {"email": closed({"emailType": STRING, "optInType": STRING, "status": STRING})}),
        "lists": array(closed({"id": INTEGER, "name": STRING, "status": one_of("subscribed", "suppressed", "pending")})),
    },
)
LINK = closed({"marker": STRING, "link": STRING})
CONTACTS_PAGE = closed(
    {"_items": array(CONTACT), "_links": closed({"self": LINK, "first": LINK}, {"prev": LINK, "next": LINK, "last": LINK})}
)


@dataclass(frozen=True)
class Operation:
    """One operation.

    Args:
        method: HTTP method.
        template: path as the published documents write it.
        answers: status -> schema of the answer; None if it has no body.
        request: schema of the request; None if it has no body.
    """

    method: str
    template: str
    answers: dict[int, Schema | None] = field(default_factory=dict)
    request: Schema | None = None

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """The paths that the template stands for."""
        return re.compile(re.sub(r"\\{[^/]+\\}", "[^/]+", re.escape(self.template)))

    def answer(self, status: int) -> Schema | None:
        """Return the schema of an answer; errors have the form of their version."""
        if status in self.answers:
            return self.answers[status]
        # the sandbox itself answers what it does not serve
        return ERROR if self.template.startswith("/contacts/v3") and status != 405 else MESSAGE


# the fewest placeholders first, so that /import is no {identifier}
OPERATIONS = (
    Operation("GET", "/v2/account-info", {200: ACCOUNT_INFO}),
    Operation("GET", "/v2/address-books", {200: array(ADDRESS_BOOK)}),
    Operation("POST", "/v2/address-books", {200: ADDRESS_BOOK}, NEW_ADDRESS_BOOK),
    Operation("GET", "/v2/data-fields", {200: array(DATA_FIELD)}),
    Operation("POST", "/v2/data-fields", {201: DATA_FIELD}, NEW_DATA_FIELD),
    Operation("GET", "/v2/programs", {200: array(PROGRAM)}),
    Operation("GET", "/contacts/v3", {200: CONTACTS_PAGE}),
    Operation("PUT", "/contacts/v3/import", {202: IMPORT_ACCEPTED}, IMPORT),
    Operation("GET", "/v2/address-books/{id}", {200: ADDRESS_BOOK}),
    Operation("GET", "/contacts/v3/import/{importId}", {200: IMPORT_STATUS}),
    Operation("GET", "/contacts/v3/{identifier}/{value}", {200: CONTACT}),
)


class OwnSchemas:
    """Checks calls against the schemas of this module."""

    def validate(self, call: Call) -> bool:
        """Check a call's request and answer; return whether the answer has a body."""
        found = [one for one in OPERATIONS if one.method == call.method and one.pattern.fullmatch(call.path)]
        assert found, f"nothing here describes {call.method} {call.path}"
        operation = found[0]
        if operation.request is None:
            assert call.body == b""
        else:
            check(json.loads(call.body), operation.request)
        assert call.status is not None, "the call was not answered"
        schema = operation.answer(call.status)
        if schema is None:
            assert not call.answer
            return False
        check(json.loads(call.answer or b""), schema)
        return True


def check(value: object, schema: Schema) -> None:
    """Check a value against a schema."""
    errors = [f"{error.json_path}: {error.message}" for error in OAS31Validator(schema).iter_errors(value)]
    assert not errors, errors[:3]
