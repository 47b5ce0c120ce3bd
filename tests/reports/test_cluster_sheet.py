"""The sheet of a clustering in a real browser: it fits, Tab goes from cluster to cluster, no name becomes markup."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_browser import CHROMIUM, chromium, complaints

from facekd.core.pixels import encode_crop
from facekd.reports.clusters import ShownCluster, ShownFace, write_clusters
from facekd.reports.document import Picture, Repeat

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

HOSTILE = '"><img src=x onerror=alert(1)><script>document.title = "pwned"</script>' + "very_long_name" * 20
FRAME = """<!doctype html><body style="margin:0"><iframe src="clusters.html" width="{width}" height="900"></iframe>
<script>
onload = () => {{
  const page = document.querySelector("iframe").contentDocument, root = page.documentElement;
  const found = {{
    title: page.title, width: page.defaultView.innerWidth, scroll_width: root.scrollWidth,
    stops: [...page.querySelectorAll(".cluster")].map((one) => one.tabIndex),
    loose: [...page.querySelectorAll("a[href^='#']")].filter((a) => !page.querySelector(a.getAttribute("href"))).length,
    dashed: page.querySelectorAll(".doubtful img").length, scripts: page.scripts.length,
    pictures: [...page.images].every((image) => image.complete && image.naturalWidth === 80),
  }};
  const out = document.createElement("pre"); out.id = "found"; out.textContent = JSON.stringify(found);
  document.body.append(out);
}};
</script>"""


def face(doubtful: bool = False) -> ShownFace:
    pixels = np.random.default_rng(0).integers(0, 256, (80, 80, 3)).astype(np.uint8)
    return ShownFace(HOSTILE, "0.31", doubtful, Picture(encode_crop(pixels), HOSTILE))


@pytest.mark.parametrize("width", [390, 1400])
def test_the_sheet_in_a_browser(tmp_path: Path, width: int) -> None:
    clusters = [ShownCluster(number, 14, 1, (*[face()] * 11, face(True))) for number in (1, 2, 3)]
    least = [(2, face(True)), (77, face(True))]  # the one of a cluster that is not shown has no link
    write_clusters(
        tmp_path / "clusters.html",
        lead=HOSTILE,
        notes=[HOSTILE],
        least=least,
        clusters=clusters,
        rest="Not shown: 1 face.",
        repeat=Repeat((HOSTILE,), {"cores": 2}),
    )
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.format(width=width))
    done = chromium(
        tmp_path / "profile",
        "--allow-file-access-from-files",
        "--window-size=1500,1000",
        "--virtual-time-budget=5000",
        "--dump-dom",
        frame.as_uri(),
    )
    assert complaints(done.stderr) == []
    shown = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert shown is not None
    found: dict[str, Any] = json.loads(shown[1])
    assert (found["title"], found["scripts"]) == ("Clusters", 0)
    assert found["scroll_width"] <= found["width"]
    assert found["stops"] == [0, 0, 0]
    assert (found["loose"], found["dashed"], found["pictures"]) == (0, 5, True)
