"""A small zoo for the tests of this folder."""

import shutil
from pathlib import Path

import pytest
from menagerie import make_zoo


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a zoo that no test changes."""
    folder = tmp_path_factory.mktemp("pristine") / "zoo"
    make_zoo(folder).close()
    return folder


@pytest.fixture
def zoo_folder(pristine: Path, tmp_path: Path) -> Path:
    """Folder of a zoo that a test may change."""
    return Path(shutil.copytree(pristine, tmp_path / "zoo"))
