"""examples/web by its own tests, in node and in headless Chromium: ``npm --prefix examples/web test``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

WEB = Path(__file__).parents[2] / "examples" / "web"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not at hand")
@pytest.mark.skipif(not (WEB / "node_modules").is_dir(), reason="npm --prefix examples/web ci has not been run")
def test_the_page_gives_facekds_numbers() -> None:
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run(
        ["npm", "--prefix", str(WEB), "test"], capture_output=True, text=True, check=False, env=environment, timeout=550
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
