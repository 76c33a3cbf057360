"""`shared`, `db`, `listeners` and `rakuten` are common names: what is installed under them must be ours, whole."""

import email
import importlib.metadata
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from readme_renderer import markdown
from repository import ROOT

OURS = ("db", "listeners", "rakuten", "shared")
REPOSITORY = "https://example.org/team/pipeline"


def build(kind: str, directory: Path, **environment: str) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(directory)]
    subprocess.run(command, cwd=ROOT, env=os.environ | environment, check=True, capture_output=True)  # noqa: TID251
    [path] = directory.iterdir()
    return path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    return zipfile.ZipFile(build("wheel", tmp_path_factory.mktemp("wheel"), REPOSITORY_URL=REPOSITORY))


@pytest.fixture(scope="module")
def metadata(wheel) -> email.message.Message:
    [name] = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return email.message_from_bytes(wheel.read(name))


def committed_files() -> set[str]:
    """The files of the repository. Outside a git checkout, for example in an unpacked sdist, there are none."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    return set(
        subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.split("\n")
    ) - {""}


@pytest.mark.parametrize("name", OURS)
def test_the_installed_package_of_that_name_is_ours_alone(name):
    assert importlib.metadata.packages_distributions().get(name, ["rakuten-pipeline"]) == ["rakuten-pipeline"]
    assert Path(__import__(name).__file__).is_relative_to(ROOT)


def test_the_wheel_holds_every_module_sql_script_word_list_page_and_type_marker(wheel):
    wanted = {
        str(path.relative_to(ROOT))
        for name in OURS
        for path in (ROOT / name).rglob("*")
        if path.suffix in {".py", ".sql", ".toml", ".tsv", ".mako", ".html", ".css", ".js"}
    }
    wanted |= {f"{name}/py.typed" for name in OURS}
    assert wanted <= set(wheel.namelist())


def test_the_wheel_holds_nothing_else(wheel):
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(OURS)
    assert not [name for name in wheel.namelist() if "Dockerfile" in name]


def test_the_sdist_holds_every_file_of_the_repository(tmp_path):
    files = committed_files()
    if not files:
        pytest.skip("this is no git checkout")
    with tarfile.open(build("sdist", tmp_path)) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert held - {"PKG-INFO"} == {name for name in files if (ROOT / name).exists()}


def test_the_metadata_say_where_the_project_is_and_which_pythons_it_takes(metadata):
    links = dict(line.split(", ") for line in metadata.get_all("Project-URL"))
    assert links.keys() == {"Source", "Documentation", "Changelog", "Issues", "Security"}
    assert all(link.startswith(REPOSITORY) for link in links.values())
    assert metadata["Keywords"]
    classified = set(
        re.findall(r"Python :: (3\.\d+)$", "\n".join(metadata.get_all("Classifier")), re.MULTILINE)
    )
    assert classified == {"3.11", "3.12", "3.13"}
    assert metadata["Requires-Python"] in {"<3.14,>=3.11", ">=3.11,<3.14"}


def test_the_readme_renders_on_a_package_index_without_a_relative_link(metadata):
    rendered = markdown.render(metadata.get_payload(decode=True).decode())
    assert rendered is not None
    targets = re.findall(r'(?:href|src)="([^"]*)"', rendered)
    assert [target for target in targets if not re.match(r"https?://|#", target)] == []
    pictures = re.findall(r'src="([^"]*)"', rendered)
    for picture in pictures:
        path = picture.removeprefix(f"{REPOSITORY}/raw/v{metadata['Version']}/")
        assert (ROOT / path).is_file(), picture


def test_the_version_has_its_section_in_the_changelog(metadata):
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(
        rf"^## \[{re.escape(metadata['Version'])}\] - \d{{4}}-\d\d-\d\d$", changelog, re.MULTILINE
    )


def test_the_workflows_test_every_python_that_the_package_takes(metadata):
    workflow = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    classified = re.findall(r"Python :: (3\.\d+)$", "\n".join(metadata.get_all("Classifier")), re.MULTILINE)
    assert [version for version in classified if f'"{version}"' not in workflow] == []


def test_every_action_is_pinned_to_a_commit():
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        for action in re.findall(r"uses: (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE):
            assert re.fullmatch(r"[\w-]+/[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), (
                f"{path.name}: {action}"
            )


def test_every_dependency_is_pinned_in_the_constraints():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = [name for names in project["project"]["optional-dependencies"].values() for name in names]
    groups = [name for names in project["dependency-groups"].values() for name in names]
    pins = re.findall(
        r"^([a-z0-9-]+)==", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE
    )
    for requirement in project["project"]["dependencies"] + extras + groups:
        name = re.split(r"[\[<>=]", requirement)[0].lower()
        assert name in {*pins, "rakuten-pipeline"}, requirement


def test_data_is_no_package():
    assert not (ROOT / "data" / "__init__.py").exists()


def test_no_committed_file_names_a_registry_or_a_default_password():
    forbidden = ("/simple" + "/", "index" + "-url =", "PASSWORD=" + "postgres", "PASSWORD=" + "airflow")
    for name in committed_files():
        path = ROOT / name
        if path.suffix in {".py", ".toml", ".txt", ".yml", ".md", ".sh", ".example"} and path.exists():
            text = path.read_text(encoding="utf-8")
            assert not [word for word in forbidden if word in text], name
