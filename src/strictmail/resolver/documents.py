# SPDX-License-Identifier: Apache-2.0
"""The shape of what the HTTP API answers, described once: for encoding and for OpenAPI.

Version 1. Fields are only ever added; one that is not known is null, never missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from strictmail.core.explain import decision_to_json
from strictmail.runtime.operations import ErrorDocument, describe_answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from strictmail.core.decision import Decision


class RefusedMxDocument(msgspec.Struct):
    """An MX host that may not be used."""

    name: str
    reason: str


class PolicyDocument(msgspec.Struct):
    """The MTA-STS policy in force (RFC 8461 §3.2); `policy_strings` as served."""

    id: str
    mode: str
    max_age: int
    mx: list[str]
    policy_strings: list[str]
    fetched_at: str
    expires_at: str
    source: str


class FailureDocument(msgspec.Struct):
    """Why a policy could not be learnt (RFC 8460 §4.3)."""

    result_type: str
    reason_code: str
    reason: str


class OverrideDocument(msgspec.Struct):
    """An operator's override in force."""

    action: str
    reason: str
    mx: list[str]
    expires_at: str


class MxHostDocument(msgspec.Struct):
    """One MX host and what DANE says of it (RFC 7672 §2.2)."""

    name: str
    preference: int
    tlsa_state: str
    tlsa_base_domain: str | None
    tlsa: list[str]
    detail: str


class MxDocument(msgspec.Struct):
    """The MX set that was judged; `ttl` in seconds."""

    status: str
    secure: bool
    detail: str
    ttl: int
    hosts: list[MxHostDocument]


class DecisionDocument(msgspec.Struct):
    """What a next-hop demands, and why."""

    nexthop: str
    level: str
    reason: str
    sentence: str
    source: str
    allowed_mx: list[str]
    refused_mx: list[RefusedMxDocument]
    policy: PolicyDocument | None
    failure: FailureDocument | None
    override: OverrideDocument | None
    mx: MxDocument | None
    notes: list[str]


def encode_decision(decision: Decision) -> bytes:
    """A decision as the JSON document that `openapi` describes."""
    document = msgspec.convert(decision_to_json(decision), DecisionDocument)
    return msgspec.json.encode(document)


PROFILE_PARAMETERS: Final[list[dict[str, Any]]] = [
    {
        "name": "nexthop",
        "in": "path",
        "required": True,
        "description": "As the MTA would ask: `example.com`, `[mx.example.com]:587`.",
        "schema": {"type": "string", "maxLength": 1000},
    },
    {
        "name": "dane",
        "in": "query",
        "description": "Whether the asking MTA can do DANE.",
        "schema": {"type": "string", "enum": ["yes", "no"], "default": "no"},
    },
    {
        "name": "default_level",
        "in": "query",
        "description": "The MTA's default TLS level; no answer is below it.",
        "schema": {
            "type": "string",
            "enum": ["may", "encrypt", "dane", "dane-only", "secure"],
            "default": "may",
        },
    },
]


def decision_paths(schema: Callable[[type], dict[str, Any]]) -> dict[str, Any]:
    """The OpenAPI 3.1 description of the resolver's routes.

    Args:
        schema: The reference to a document.
    """
    return {
        "/v1/decision/{nexthop}": {
            "get": {
                "operationId": "decide",
                "summary": "What a next-hop demands of a sender, and why.",
                "parameters": PROFILE_PARAMETERS,
                "responses": {
                    "200": describe_answer("The decision.", schema(DecisionDocument)),
                    "400": describe_answer("The request is not understood.", schema(ErrorDocument)),
                },
            }
        }
    }
