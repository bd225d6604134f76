"""The JSON Schema of the policy language, written from the grammar.

Law: the schema refuses nothing that `check` takes, so that an editor never underlines a right policy; it refuses what
a schema can see, and `check` says the rest. Written by `python -m headgate.policy.schema > policies/headgate-v1.schema.json`;
a test holds the file equal.
"""  # noqa: E501  (a command is one line)

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from headgate.policy.model import BELONGS, LIMIT, METER, OVERRIDE, POLICY, STEP, STEP_NEEDS, WHEN
from headgate.policy.shape import Either, Leaf, Many, Named, OneOf, Record, Shape, Words

DEFS: Mapping[str, Record] = {"limit": LIMIT, "meter": METER, "when": WHEN, "step": STEP, "override": OVERRIDE}
"""Records that are written once and referred to."""

Schema = dict[str, Any]


def schema() -> Schema:
    """The whole schema, draft 2020-12."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "headgate-v1.schema.json",
        "title": "headgate policy, v1",
        **_record(POLICY),
        "$defs": {name: _record(record) for name, record in DEFS.items()},
    }


def _of(shape: Shape) -> Schema:
    match shape:
        case Leaf():
            own = dict(shape.kind.schema)
            return {"anyOf": [{"const": "unlimited"}, own]} if shape.unlimited else own
        case Words():
            return {"enum": list(shape.words)}
        case Record():
            name = next((name for name, record in DEFS.items() if record is shape), None)
            return {"$ref": f"#/$defs/{name}"} if name else _record(shape)
        case Named():
            return {
                "type": "object",
                "minProperties": 1,
                "propertyNames": dict(shape.key.schema),
                "additionalProperties": _of(shape.item),
            }
        case Many():
            several = {"type": "array", "minItems": 1, "uniqueItems": True, "items": _of(shape.item)}
            return {"anyOf": [_of(shape.item), several]} if shape.alone else several
        case Either():
            return {"anyOf": [_of(shape.scalar), _of(shape.branch)]}


def _record(record: Record) -> Schema:
    properties: Schema = {}
    for name, field in record.fields.items():
        properties[name] = {"description": field.doc, **_of(field.shape)}
        if field.default:
            properties[name]["description"] += f" (default: {field.default})"
    found: Schema = {"type": "object", "properties": properties}
    required = [name for name, field in record.fields.items() if field.required]
    if required:
        found["required"] = required
    if record.least:
        found["minProperties"] = record.least
    found["additionalProperties"] = _of(record.others.shape) if record.others is not None else False
    if record.one_of is not None:
        found["oneOf"] = _one_of(record.one_of)
    if record is LIMIT:
        found["dependentRequired"] = {modifier: [verb] for modifier, verb in BELONGS.items()}
    if record is STEP:
        found["allOf"] = [
            {"if": {"properties": {"do": {"const": do}}, "required": ["do"]}, "then": {"required": list(needs)}}
            for do, needs in STEP_NEEDS.items()
        ]
    return found


def _one_of(rule: OneOf) -> list[Schema]:
    each: list[Schema] = [{"required": [name]} for name in rule.names]
    return [*each, {"not": {"anyOf": each}}] if rule.optional else each


def text() -> str:
    """The schema as its file holds it."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(text(), end="")
