"""How a refusal is written down in OpenAPI: once, for every framework that has such a document.

Law: what is documented is what headgate sends in the dialect `ietf`, and no more: a field that is not always there is
not required. Of the limits nothing is told here; they are the policy's, and differ from caller to caller.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MEDIA = "application/problem+json"


def _text(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": description, **more}


PROBLEM: Mapping[str, Any] = {
    "type": "object",
    "title": "Refusal",
    "description": "A problem document (RFC 9457).",
    "required": ["type", "title", "status"],
    "properties": {
        "type": _text("What kind of refusal it is.", format="uri-reference"),
        "title": _text("The same in words."),
        "status": {"type": "integer", "description": "The response's status."},
        "detail": _text("Which limit refused, what is left of it, and when it may grant again."),
        "message": _text("The same as `detail`, for clients that show this alone."),
        "instance": _text("The decision's id, for questions about it."),
        "violated-policies": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Every limit that refused, by its id.",
        },
        "clause": {
            "type": "object",
            "description": "The sentence of the terms that the limit enforces.",
            "required": ["id", "title", "url"],
            "properties": {
                "id": {"type": "string"},
                "title": {"type": "string"},
                "url": {"type": "string", "format": "uri-reference"},
            },
        },
    },
}
"""The body of a refusal."""


def _header(description: str, kind: str = "string") -> dict[str, Any]:
    return {"description": description, "schema": {"type": kind}}


_WAIT = {
    "Retry-After": _header(
        "Seconds after which it may be tried again; absent where waiting does not help.", "integer"
    ),
    "retry-after-ms": _header("The same in milliseconds.", "integer"),
}
_TOLD = {
    "RateLimit-Policy": _header("The limits that were asked (draft-ietf-httpapi-ratelimit-headers)."),
    "RateLimit": _header("What is left of them, and when it comes back."),
    "x-should-retry": _header("`false` where a client should not try again by itself."),
}


def _response(description: str, headers: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": description, "headers": dict(headers), "content": {MEDIA: {"schema": dict(PROBLEM)}}}


RESPONSES: Mapping[int, dict[str, Any]] = {
    401: _response("It is not known who is calling.", {"WWW-Authenticate": _header("How to name a key.")}),
    429: _response("A quota or a rate has been used up.", {**_WAIT, **_TOLD}),
    503: _response("It cannot be decided now whether the request may pass.", _WAIT),
}
"""By status, the responses that headgate gives in an endpoint's place, as OpenAPI writes a response."""

NAMES: Mapping[int, str] = {401: "HeadgateNobody", 429: "HeadgateRefused", 503: "HeadgateUnavailable"}
"""Under which names they stand among a document's components."""

REFERENCES: Mapping[str, str] = {str(status): f"#/components/responses/{name}" for status, name in NAMES.items()}
"""By status, where an operation finds them."""

METHODS = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})


def described(document: dict[str, Any]) -> dict[str, Any]:
    """The same OpenAPI document, in which every operation may be refused. What an operation says itself of a status
    is left as it is; a document that was described already does not change.

    >>> told = described({"paths": {"/search": {"get": {"responses": {"200": {"description": "rows"}}}}}})
    >>> sorted(told["paths"]["/search"]["get"]["responses"]), sorted(told["components"]["responses"])
    (['200', '401', '429', '503'], ['HeadgateNobody', 'HeadgateRefused', 'HeadgateUnavailable'])
    """
    shared = document.setdefault("components", {}).setdefault("responses", {})
    for status, name in NAMES.items():
        shared.setdefault(name, RESPONSES[status])
    for path in document.get("paths", {}).values():
        for method, operation in path.items():
            if method in METHODS:
                responses = operation.setdefault("responses", {})
                for status_text, reference in REFERENCES.items():
                    responses.setdefault(status_text, {"$ref": reference})
    return document
