"""The report in a real browser: headless Chromium, no network."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

# A window can't be narrower than 500 pixels, a frame can, and media queries inside it see the frame's width.
FRAME = """<!doctype html><body style="margin:0"><iframe src="{name}" width="{width}" height="{height}"
style="border:0;display:block"></iframe><script>
onload = () => {{
  const page = document.querySelector("iframe").contentDocument, root = page.documentElement;
  const seen = (element) => element.getBoundingClientRect();
  const style = (element) => page.defaultView.getComputedStyle(element);
  const size = (text) => text.ownerSVGElement.getScreenCTM().a * parseFloat(style(text).fontSize);
  const found = {{
    title: page.title, width: page.defaultView.innerWidth, scroll_width: root.scrollWidth, height: root.scrollHeight,
    plots: [...page.querySelectorAll("svg.plot")].map((svg) => [seen(svg).width, seen(svg).height,
      svg.querySelectorAll("path").length, svg.querySelectorAll("text").length]),
    smallest_text: Math.min(...[...page.querySelectorAll("svg.plot text")].map(size)),
    pictures: [...page.images].map((image) => [image.complete, image.naturalWidth, seen(image).width]),
    columns: style(page.querySelector(".figures")).gridTemplateColumns.split(" ").length,
    line: style(page.querySelector("svg.plot path[style*='stroke: var(--series-1']")).stroke,
    paper: style(page.body).backgroundColor,
    outside: [...page.querySelectorAll("body *")].filter((element) => !element.closest(".scroll, pre")
      && seen(element).right > root.clientWidth + 1).map((element) => element.outerHTML.slice(0, 80)),
  }};
  const out = document.createElement("pre"); out.id = "found"; out.textContent = JSON.stringify(found);
  document.body.append(out);
}};
</script>"""


def chromium(profile: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    quiet = "--disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", *quiet.split()]
    command += [f"--user-data-dir={profile}", "--hide-scrollbars", "--enable-logging=stderr", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done


def complaints(stderr: str) -> list[str]:
    """What pages wrote to the console; Chromium's own trouble with a bare machine is not among it."""
    return [line for line in stderr.splitlines() if "CONSOLE" in line]


def look(tmp_path: Path, width: int, scheme: str = "light") -> dict[str, Any]:
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.format(name="report.html", width=width, height=900))
    done = chromium(
        tmp_path / f"profile-{width}-{scheme}",
        "--allow-file-access-from-files",  # so that the frame's page may be measured
        f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}",
        "--window-size=1400,1000",
        "--virtual-time-budget=5000",
        "--dump-dom",
        frame.as_uri(),
    )
    assert complaints(done.stderr) == []
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found is not None, done.stdout[:500]
    values: dict[str, Any] = json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    return values


@pytest.mark.parametrize(("width", "columns"), [(390, 1), (1400, 2)])
def test_the_page_fits_and_everything_on_it_is_there(
    tmp_path: Path, write_sample: Callable[[Path], None], width: int, columns: int
) -> None:
    write_sample(tmp_path / "report.html")
    found = look(tmp_path, width)
    assert found["title"].startswith("facekd quickstart")  # the hostile names would have changed it
    assert found["width"] == width
    assert found["scroll_width"] == width
    assert found["outside"] == []
    assert len(found["plots"]) == 6
    for plot_width, plot_height, paths, words in found["plots"]:
        assert plot_width > 300
        assert plot_height > 200
        assert paths > 10
        assert words > 8
    assert found["smallest_text"] > 7.5
    assert len(found["pictures"]) == 8
    assert all(picture == [True, 112, 112] for picture in found["pictures"])
    assert found["columns"] == columns


def test_light_and_dark_follow_the_reader(tmp_path: Path, write_sample: Callable[[Path], None]) -> None:
    write_sample(tmp_path / "report.html")
    light, dark = look(tmp_path, 800), look(tmp_path, 800, "dark")
    assert (light["paper"], dark["paper"]) == ("rgb(255, 255, 255)", "rgb(20, 24, 28)")
    assert (light["line"], dark["line"]) == ("rgb(0, 104, 168)", "rgb(92, 178, 242)")


def test_the_policy_holds_in_the_browser(tmp_path: Path, write_sample: Callable[[Path], None]) -> None:
    """The net below the escaping, and proof that `complaints` sees what it should."""
    write_sample(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    bad = '<script>document.title = "pwned"</script><img src="https://example.invalid/x.png"></body>'
    (tmp_path / "report.html").write_text(page.replace("</body>", bad), encoding="utf-8")
    done = chromium(tmp_path / "profile", "--dump-dom", (tmp_path / "report.html").as_uri())
    assert "<title>facekd quickstart" in done.stdout
    said = " ".join(complaints(done.stderr))
    assert "script" in said
    assert "example.invalid" in said


def test_it_prints_and_is_seen(tmp_path: Path, write_sample: Callable[[Path], None]) -> None:
    write_sample(tmp_path / "report.html")
    address = (tmp_path / "report.html").as_uri()
    paper, screen = tmp_path / "report.pdf", tmp_path / "report.png"
    chromium(tmp_path / "a", f"--print-to-pdf={paper}", "--no-pdf-header-footer", address)
    assert paper.read_bytes().startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", paper.read_bytes())) <= 5
    chromium(tmp_path / "b", f"--screenshot={screen}", "--window-size=1400,2000", address)
    picture = cv2.imread(str(screen))
    assert picture is not None
    assert picture.shape == (2000, 1400, 3)
    plot = picture[900:1300, 150:700].reshape(-1, 3)
    assert len({tuple(pixel) for pixel in plot[::7].tolist()}) > 50  # lines, bands and letters, no empty box
