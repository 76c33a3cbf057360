"""Every remedy in the code, found by reading the code: what an error, a problem of a file or a finding tells a user to do."""

import ast
import re
from collections.abc import Iterator

from repository import ROOT

CODE = ("dags", "db", "listeners", "rakuten", "shared")
# The position of the remedy among the arguments of the functions that take one without naming it.
_POSITIONS = {"Problem": 4, "report": 3, "_problem": 2, "_undecodable": 3, "_Outage": 1, "Meaning": 1}
_WRITTEN_OUT = re.compile(r"remedy: (.+)")


def remedies() -> dict[str, str]:
    """The texts of all remedies, with the file of each. A value that is put into a text is written as {}."""
    paths = [path for name in CODE for path in sorted((ROOT / name).rglob("*.py"))]
    trees = {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in paths}
    found: dict[str, str] = {}
    names: set[str] = set()  # of constants and variables that hold remedies, such as FETCH_AGAIN
    values = [(file, value) for file, tree in trees.items() for value in _given(tree)]
    while values:
        new: set[str] = set()
        for file, value in values:
            for part in _branches(value):
                if isinstance(part, ast.Name):
                    new |= {part.id} - names
                elif (text := _text(part)) is not None:
                    found[text] = file
        names |= new
        values = [(file, value) for file, tree in trees.items() for value in _assigned(tree, new)]
    return found


def _given(tree: ast.Module) -> Iterator[ast.expr]:
    """What the code gives as a remedy: by name, by position, in a loop, or in a message that is written out."""
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    inner |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
    for node in ast.walk(tree):
        match node:
            case ast.Call():
                yield from (keyword.value for keyword in node.keywords if keyword.arg in {"remedy", "fix"})
                name = (
                    node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                )
                if name in _POSITIONS:
                    yield from _at(node.args, _POSITIONS[name])
            case ast.FunctionDef():
                defaults = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
                yield from (value for name, value in defaults if value and name.arg in {"remedy", "fix"})
            case ast.Dict():
                pairs = zip(node.keys, node.values, strict=True)
                yield from (
                    value for key, value in pairs if isinstance(key, ast.Constant) and key.value == "remedy"
                )
            case ast.For() if "remedy" in {
                part.id for part in ast.walk(node.target) if isinstance(part, ast.Name)
            }:
                yield from (part for part in ast.walk(node.iter) if isinstance(part, ast.Name))
            case ast.JoinedStr() | ast.Constant() if id(node) not in inner:
                written = _WRITTEN_OUT.search(_text(node) or "")
                if written and written.group(1) != "{}":
                    yield ast.Constant(written.group(1))


def _at(arguments: list[ast.expr], position: int) -> list[ast.expr]:
    """The argument at a position, which may be in an unpacked tuple at the end."""
    if arguments and isinstance(arguments[-1], ast.Starred):
        return [arguments[-1].value]
    return arguments[position : position + 1]


def _assigned(tree: ast.Module, names: set[str]) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
            continue
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            pairs = [(target, node.value)]
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = list(zip(target.elts, node.value.elts, strict=True))
            yield from (value for name, value in pairs if isinstance(name, ast.Name) and name.id in names)


def _branches(value: ast.expr) -> Iterator[ast.expr]:
    """The texts that a value may have: both of a choice, all values of a dictionary, the last of a tuple."""
    match value:
        case ast.IfExp():
            yield from _branches(value.body)
            yield from _branches(value.orelse)
        case ast.Dict():
            for each in value.values:
                yield from _branches(each)
        case ast.Subscript():
            yield from _branches(value.value)
        case ast.Attribute():
            yield ast.Name(value.attr)
        case ast.Tuple():
            yield from _branches(value.elts[-1])
        case _:
            yield value


def _text(value: ast.expr) -> str | None:
    """A text as it is written in the code, or the name of the function that makes it; None for anything else."""
    match value:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr():
            return "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in value.values)
        case ast.BinOp(op=ast.Add()):
            return f"{_text(value.left)}{_text(value.right)}"
        case ast.Call(func=ast.Name(id=name)):
            return f"{name}()"
        case _:
            return None
