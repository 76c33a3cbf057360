"""Every package that our code imports is installed with us, or by the extra that `shared.extras` names."""

import ast
import importlib.metadata
import re
import sys
import tomllib

import pytest
from repository import ROOT

from shared.extras import PACKAGES, MissingExtraError, missing_extra, require_extra

OURS = ("db", "listeners", "rakuten", "shared")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def distributions(requirements: list[str]) -> set[str]:
    """The distributions that these requirements install, with everything that they need."""
    found: set[str] = set()
    while requirements:
        name = re.split(r"[ \[<>=!;~(]", requirements.pop())[0].lower().replace("_", "-")
        if name in found:
            continue
        try:
            needed = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:  # for another platform
            continue
        found.add(name)
        requirements += [line for line in needed if "extra ==" not in line]
    return found


def imported() -> dict[str, str]:
    """The packages of others that our code imports, each with one file that does."""
    packages = {}
    for path in (path for name in OURS for path in (ROOT / name).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            packages |= {name.partition(".")[0]: str(path) for name in names}
    return {name: path for name, path in packages.items() if name not in {*sys.stdlib_module_names, *OURS}}


def test_every_imported_package_is_in_the_plain_installation_or_in_the_extra_that_is_named():
    plain = distributions(list(PROJECT["dependencies"]))
    of_extra = {package: extra for extra, packages in PACKAGES.items() for package in packages}
    providers = importlib.metadata.packages_distributions()
    for package, path in imported().items():
        names = {name.lower().replace("_", "-") for name in providers[package]}
        if package in of_extra:
            extra = PROJECT["optional-dependencies"][of_extra[package]]
            assert names & distributions(list(extra)), f"{package} is not in the extra {of_extra[package]}"
            assert not names & plain, f"{package} is in the plain installation"
        else:
            assert names & plain, f"{path} imports {package}, which the plain installation does not have"


def test_the_extra_demo_has_all_that_one_machine_needs():
    [demo] = PROJECT["optional-dependencies"]["demo"]
    assert demo == "rakuten-pipeline[ml,mlflow-server,serve,report,embedded]"


@pytest.mark.parametrize("extra", PACKAGES)
def test_an_extra_is_required_by_the_packages_that_it_installs(extra, monkeypatch):
    require_extra(extra)
    monkeypatch.setitem(sys.modules, PACKAGES[extra][0], None)  # as if it were not installed
    with pytest.raises(MissingExtraError, match=re.escape(f"[{extra}]")):
        require_extra(extra)


@pytest.mark.parametrize(
    "error",
    [
        ModuleNotFoundError("No module named 'frobnicate'", name="frobnicate"),
        ModuleNotFoundError("No module named 'mlflow.frobnicate'", name="mlflow.frobnicate"),
        ImportError("cannot import name 'x'", name="mlflow"),
        ValueError("mlflow"),
    ],
)
def test_an_error_that_no_extra_mends_stays_an_error(error):
    assert missing_extra(error) is None
