"""What several unit tests need: a small set of source files."""

import pytest
from source_files import Sources


@pytest.fixture
def sources(tmp_path) -> Sources:
    return Sources(tmp_path)
