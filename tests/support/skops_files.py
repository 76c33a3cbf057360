"""Files in the format of skops, put together by hand: what a model of ours never holds, and an attacker's may."""

import io
import json
import zipfile

import sklearn
import skops
from skops.io._protocol import PROTOCOL

Node = dict[str, object]


def file_of(node: Node) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(
            "schema.json", json.dumps(node | {"protocol": PROTOCOL, "_skops_version": skops.__version__})
        )
    return buffer.getvalue()


def plain(value: object) -> Node:
    return _node("JsonNode", "builtins", "str", content=json.dumps(value), is_json=True)


def called(module: str, name: str, *arguments: Node) -> Node:
    """What a function or class of a module returns for these arguments, called while the file is loaded."""
    return _node("ConstructorFromReduceNode", module, name, content=_tuple(*arguments))


def estimator(module: str, name: str, **attributes: Node) -> Node:
    """An object of scikit-learn's with these attributes, made without its constructor."""
    version = plain(sklearn.__version__)
    return _node("ObjectNode", module, name, content=_dict(_sklearn_version=version, **attributes))


def methodcaller(*arguments: str) -> Node:
    return _node("OperatorFuncNode", "operator", "methodcaller", attrs=_tuple(*map(plain, arguments)))


def partial(function: Node, *arguments: Node) -> Node:
    content = {"func": function, "args": _tuple(*arguments), "kwds": _dict(), "namespace": plain(None)}
    return _node("PartialNode", "functools", "partial", content=content)


def defaultdict(factory: Node) -> Node:
    content = {"main": _dict(), "default_factory": factory}
    return _node("DefaultDictNode", "collections", "defaultdict", content=content)


def _tuple(*items: Node) -> Node:
    return _node("TupleNode", "builtins", "tuple", content=list(items))


def _dict(**items: Node) -> Node:
    keys = [_node("TypeNode", "builtins", "str") for _ in items]
    key_types = _node("ListNode", "builtins", "list", content=keys)
    return _node("DictNode", "builtins", "dict", content=items, key_types=key_types)


def _node(loader: str, module: str, name: str, **more: object) -> Node:
    return {"__loader__": loader, "__module__": module, "__class__": name, **more}
