"""Set the project's links and its README for a package index, when a wheel or an sdist is built.

A package index shows the README without the files beside it, so a relative link or picture leads nowhere. The release workflow
sets REPOSITORY_URL to the address of its repository, which for a fork is the fork. With this address, the links become absolute
and point to the files of the released version. Without it, as in a build on a laptop, the README stays as it is.
"""

import os
import re
from pathlib import Path
from typing import Any, Final

from hatchling.metadata.plugin.interface import MetadataHookInterface

# The target of a Markdown link or of an `img` tag, unless it is absolute or leads to a heading of the README.
_RELATIVE: Final = re.compile(r"""(\]\(|src=")(?![a-z]+:|#)([^)"\s]+)""")
_PICTURES: Final = (".gif", ".jpg", ".png", ".svg", ".webp")


class Metadata(MetadataHookInterface):
    """Fill in `readme` and `urls`, which pyproject.toml declares as dynamic."""

    def update(self, metadata: dict[str, Any]) -> None:
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        repository = os.environ.get("REPOSITORY_URL", "").rstrip("/")
        if repository:
            text = with_absolute_links(text, repository, f"v{metadata['version']}")
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
        metadata["urls"] = links(repository) if repository else {}


def with_absolute_links(text: str, repository: str, tag: str) -> str:
    """Return a Markdown text whose relative links point to the files of a tag in a repository on GitHub.

    A picture is served as a file (`raw`), and every other file is shown as a page (`blob`).
    """

    def absolute(link: re.Match[str]) -> str:
        kind = "raw" if link[2].endswith(_PICTURES) else "blob"
        return f"{link[1]}{repository}/{kind}/{tag}/{link[2].removeprefix('./')}"

    return _RELATIVE.sub(absolute, text)


def links(repository: str) -> dict[str, str]:
    """Return the links that a package index shows beside the README."""
    return {
        "Source": repository,
        "Documentation": f"{repository}#readme",
        "Changelog": f"{repository}/blob/main/CHANGELOG.md",
        "Issues": f"{repository}/issues",
        "Security": f"{repository}/blob/main/SECURITY.md",
    }
