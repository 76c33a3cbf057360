"""Reads OpenLineage events back into the client's own classes, which refuse what the specification does not know.

The client writes JSON and ships no schemas, but its classes are generated from them: one that lacks a required field, or has one
of another name, cannot be made. A facet says by `_schemaURL` which class it is.
"""

import inspect
import json
import typing
from pathlib import Path

import attrs
from openlineage.client import event_v2, facet_v2
from openlineage.client.generated import base

CLASSES = {"RunEvent": event_v2.RunEvent} | {
    name: item
    for module in vars(facet_v2).values()
    if inspect.ismodule(module)
    for name, item in vars(module).items()
    if attrs.has(item) and issubclass(item, base.BaseFacet)
}


def read(path: Path) -> list[event_v2.RunEvent]:
    """The events of a file that a listener may still write to: what follows the last line end is an event half written."""
    *complete, _ = path.read_text(encoding="utf-8").split("\n")
    return [parse(line) for line in complete]


def parse(line: str) -> event_v2.RunEvent:
    """The event of a line; raises what the classes raise for one that the specification does not allow."""
    return _made(event_v2.RunEvent, json.loads(line))


def _made(kind, values):
    address = values.pop("_schemaURL", None) or values.pop("schemaURL", None)
    if address is not None:
        kind = CLASSES[address.rpartition("/")[2]]
        assert kind._get_schema() == address
    hints = typing.get_type_hints(kind, vars(inspect.getmodule(kind)) | vars(base))
    fields = {field.name: field for field in attrs.fields(kind)}
    unknown = values.keys() - fields.keys()
    assert not unknown, f"{kind.__name__} has no {unknown}"
    arguments = {fields[name].alias: _value(hints[name], value) for name, value in values.items()}
    return kind(**arguments)


def _value(hint, value):
    """`value` as the type that the field has, with None taken out of it."""
    [hint] = (
        [choice for choice in typing.get_args(hint) if choice is not type(None)]
        if _is_union(hint)
        else [hint]
    )
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is list:
        return [_value(arguments[0], item) for item in value]
    if origin is dict:
        return {name: _value(arguments[1], item) for name, item in value.items()}
    if attrs.has(hint):
        return _made(hint, value)
    if isinstance(hint, type) and issubclass(hint, base.EventType):
        return hint(value)
    expected = (int, float) if hint is float else hint
    assert hint is typing.Any or isinstance(value, expected), f"{value!r} is no {hint}"
    return value


def _is_union(hint) -> bool:
    return type(None) in typing.get_args(hint)
