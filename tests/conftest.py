"""For every test: on a busy machine an example of hypothesis may take its time; and nobody's own cache is written."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

# Before torch is loaded: threads that spin while they wait for a busy core turn seconds into minutes.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

settings.register_profile("facekd", deadline=None, print_blob=True)
settings.load_profile("facekd")


@pytest.fixture(scope="session", autouse=True)
def cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What facekd keeps of networks that it loads goes with the tests' other files; processes that they start too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
