"""Add the Markdown files that are outside of docs/ to the site, each under its path in the repository."""

import re
from pathlib import Path
from typing import Any, Final

from mkdocs.structure.files import File

_PAGES: Final = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "data/README.md")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages, with links that are right on the site."""
    repository = Path(config.config_file_path).parent
    for page in _PAGES:
        text = repository.joinpath(page).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=with_site_links(text)))
    return files


def with_site_links(text: str) -> str:
    """Return a page whose links to files in docs/ lead to the pages of the site, which has no folder docs/."""
    return re.sub(r"\]\(docs/", "](", text)
