from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server_manager.parts import Parts, make_parts


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    made = make_parts(tmp_path / "state")
    yield made
    made.core.database.close()
