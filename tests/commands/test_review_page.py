"""The page of facekd enroll --review in a real browser, by keyboard alone, and what it saves fed back to enroll."""

from __future__ import annotations

import csv
import io
import re
import stat
import time
from pathlib import Path
from typing import Any

import cv2
import pytest
from browser import CHROMIUM, Browser, browser
from people import contents, enrolled, pattern, save
from reviewed import COLUMNS, cases

from facekd.enrollment.cases import gallery_mark
from facekd.enrollment.decision_file import read_answers
from facekd.gallery.meta import read_meta

pytestmark = [pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"), pytest.mark.slow]

HOSTILE = "<img src=x onerror=\"document.title='pwned'\">&amp;<!--"
KEYS = {"Tab": 9, "ArrowDown": 40, "ArrowUp": 38, "Enter": 13, "Backspace": 8}


def press(page: Browser, *keys: str, shift: bool = False) -> None:
    """Keys as a keyboard sends them."""
    for key in keys:
        how: dict[str, Any] = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS.get(key, ord(key[0]))}
        if key == "Enter":
            how["text"] = "\r"
        if len(key) == 1:
            how |= {"text": key, "code": f"Digit{key}"}
        page.do("Input.dispatchKeyEvent", type="keyDown", modifiers=8 if shift else 0, **how)
        page.do("Input.dispatchKeyEvent", type="keyUp", modifiers=8 if shift else 0, **how)


def focused(page: Browser) -> list[Any]:
    """Number of the case that has the focus, value of the choice, and whether its outline is seen."""
    return list(
        page.value(
            """(() => { const one = document.activeElement, all = [...document.querySelectorAll("fieldset")];
            const seen = getComputedStyle(one.closest("label") ?? one);
            return [all.indexOf(one.closest("fieldset")), one.value || one.id,
              seen.outlineStyle === "solid" && parseFloat(seen.outlineWidth) >= 2]; })()"""
        )
    )


CHOSEN = """[...document.querySelectorAll("fieldset")]
  .map((one) => one.querySelector("input:checked")?.value ?? "")"""


def chosen(page: Browser) -> list[str]:
    return list(page.value(CHOSEN))


@pytest.fixture
def people(folder: Path) -> Path:
    """Two ids of one person, a stray photo, and a new id with an evil name."""
    save(folder / "twin" / "0.png", pattern(3, 40))
    save(folder / HOSTILE / "=1+1.png", pattern(2, 40))
    save(folder / "p01" / "stray.png", pattern(30, 1))
    return folder


def test_by_keyboard_alone(tmp_path: Path, people: Path, model: Path) -> None:
    page_file = tmp_path / "review.html"
    enrolled(people, tmp_path / "g", model, review=page_file)
    assert stat.S_IMODE(page_file.stat().st_mode) == 0o600
    rows = cases(page_file)
    assert [row["kind"] for row in rows] == ["two_ids", "two_ids", "two_people"]
    ids = [{row["person"], row["other"]} for row in rows[:2]]
    twin = ids.index({"p03", "twin"})
    (tmp_path / "saved").mkdir()
    with browser(tmp_path / "profile") as page:
        page.do("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path / "saved"))
        page.open(page_file.as_uri())
        assert page.value("document.title") == "Suspected mix-ups"
        assert page.value("document.getElementById('count').textContent") == "0 of 3 decided"
        assert page.value("document.getElementById('save').disabled") is True
        # Tab goes from question to question, in order, and the focus is seen.
        press(page, "Tab")
        assert focused(page) == [0, "same", True]
        press(page, "2")
        assert focused(page) == [0, "different", True]
        press(page, "Tab")
        assert focused(page)[0] == 0  # the button that takes the choice back
        press(page, "Tab")
        assert focused(page) == [1, "same", True]
        press(page, "ArrowDown", "ArrowDown")
        assert chosen(page) == ["different", "wrong", ""]
        press(page, "ArrowUp", "ArrowUp")
        assert chosen(page) == ["different", "same", ""]
        press(page, "Tab", "Tab", "3")
        assert chosen(page) == ["different", "same", "wrong"]
        assert page.value("document.getElementById('count').textContent") == "3 of 3 decided"
        press(page, "9")  # no such choice
        press(page, "Backspace")
        assert chosen(page) == ["different", "same", ""]
        assert page.value("document.getElementById('count').textContent") == "2 of 3 decided"
        press(page, "1", "2")
        press(page, "Tab", "Tab")
        assert focused(page) == [-1, "save", True]
        press(page, "Enter")
        assert page.wait("document.getElementById('told').textContent") == "Saved 3 as decisions.csv."
        file = tmp_path / "saved" / "decisions.csv"
        end = time.monotonic() + 20
        while not file.exists() and time.monotonic() < end:
            time.sleep(0.05)
        assert page.complaints == []
        assert all(address.startswith(("file://", "blob:", "data:")) for address in page.requests)
        assert page.value("document.title") == "Suspected mix-ups"
    text = file.read_bytes().decode("utf-8")
    assert text.startswith("\ufeffgallery,case,")
    told = list(csv.DictReader(io.StringIO(text[1:])))
    wanted = [{**row, "choice": choice} for row, choice in zip(rows, ("different", "same", "different"), strict=True)]
    escaped = {"=1+1.png": "'=1+1.png"}
    assert [{**row, "photo": escaped.get(row["photo"], row["photo"])} for row in wanted] == told
    gallery_id = read_meta(tmp_path / "g").gallery_id
    assert gallery_id is not None
    answers = read_answers(file, gallery_mark(gallery_id))
    assert [
        (one.choice, dict(zip(("kind", "person", "other", "photo"), one.told, strict=True))) for one in answers
    ] == [(row["choice"], {name: row[name] for name in ("kind", "person", "other", "photo")}) for row in wanted]
    found = enrolled(people, tmp_path / "g", model, decisions=file, review=page_file)
    assert (found.suspects, found.exit_code) == ((), 0)
    evil = next(name for name in contents(tmp_path / "g") if name.startswith("<img")) if twin == 1 else None
    assert ("twin" in contents(tmp_path / "g")) == (twin == 0)
    assert twin == 0 or evil is not None
    assert cases(page_file) == []
    assert "Nothing to decide" in page_file.read_text(encoding="utf-8")


MEASURED = """(() => { const root = document.documentElement, all = [...document.querySelectorAll("fieldset")];
  const box = (one) => one.getBoundingClientRect();
  return {
    cases: all.length, scroll: root.scrollWidth,
    outside: [...document.querySelectorAll("body *")].filter((one) => box(one).right > root.clientWidth + 1).length,
    labels: [...document.querySelectorAll("label")].map((one) => [box(one).width, box(one).height]),
    unlabeled: [...document.querySelectorAll("input")].filter((one) => !one.labels.length).length,
    legends: all.filter((one) => one.querySelector("legend").textContent.trim()).length,
    pictures: [...document.images].map((one) => [one.complete, one.naturalWidth, one.alt.length > 0]),
    beside: all.map((one) => { const [a, b] = [...one.querySelectorAll(".side")].map(box); return b.top < a.bottom; }),
  }; })()"""


@pytest.mark.parametrize(("width", "beside"), [(1280, True), (360, False)])
def test_it_fits_wide_and_narrow_screens(tmp_path: Path, folder: Path, model: Path, width: int, beside: bool) -> None:
    for number in range(20):
        save(folder / f"p{number % 4:02d}" / f"stray-{number}.png", pattern(40 + number, 1))
        save(
            folder / f"twin-{number}-{'of-a-very-long-name-without-any-space' * 2}" / "0.png", pattern(100 + number, 40)
        )
        save(folder / f"q{number:02d}" / "0.png", pattern(100 + number, 41))
    found = enrolled(folder, tmp_path / "g", model, review=tmp_path / "review.html", suspect_threshold=0.9)
    assert len(found.suspects) >= 40
    with browser(tmp_path / "profile") as page:
        page.open((tmp_path / "review.html").as_uri(), width=width)
        seen = page.value(MEASURED)
        page.picture(tmp_path / "page.png")
        assert page.complaints == []
    assert seen["cases"] == len(found.suspects) == seen["legends"]
    assert (seen["scroll"], seen["outside"], seen["unlabeled"]) == (width, 0, 0)
    assert all(label[0] > 120 and label[1] >= 40 for label in seen["labels"])  # wide enough for a finger
    assert len(seen["pictures"]) > 60
    assert all(picture == [True, 168, True] for picture in seen["pictures"])
    assert set(seen["beside"]) == {beside}
    drawn = cv2.imread(str(tmp_path / "page.png"))
    assert drawn is not None
    assert drawn.shape[1] == width


def test_its_policy_lets_no_other_script_run(tmp_path: Path, people: Path, model: Path) -> None:
    enrolled(people, tmp_path / "g", model, review=tmp_path / "review.html")
    text = (tmp_path / "review.html").read_text(encoding="utf-8")
    assert "onerror" not in re.sub(r"&lt;img.*?--", "", re.sub(r"\\u003cimg.*?--", "", text))
    bad = '<script>document.title = "pwned"</script><img src="https://example.invalid/x.png"></body>'
    (tmp_path / "bad.html").write_text(text.replace("</body>", bad), encoding="utf-8")
    with browser(tmp_path / "profile") as page:
        page.open((tmp_path / "bad.html").as_uri())
        assert page.value("document.title") == "Suspected mix-ups"
        said = " ".join(page.complaints)
    assert "script" in said
    assert "example.invalid" in said


def test_the_columns_are_those_that_are_read() -> None:
    from facekd.enrollment import decision_file

    assert decision_file.COLUMNS == COLUMNS
