"""Which folders stand for a person and hold no photo."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facekd.photos.bare import bare_folders, parts_of

CASES = {
    "an empty folder": (["Ann/1.jpg"], [], ["Ann", "Bob"], {"Bob": "an empty folder"}),
    "a film only": (["Ann/1.jpg"], ["Bob/a.mp4"], ["Ann", "Bob"], {"Bob": "no photo in it, only a.mp4"}),
    "several files": (
        ["Ann/1.jpg"], ["Bob/b.txt", "Bob/a.mp4", "Bob/c.nef"], [],
        {"Bob": "no photo in it, only a.mp4 and 2 more files"},
    ),
    "by office": (["x/Ann/1.jpg"], [], ["x/Bob", "y/Carl"], {"x/Bob": "an empty folder", "y/Carl": "an empty folder"}),
    "films beside the photos": (["Ann/1.jpg"], ["Ann/films/a.mp4"], ["Ann/old/2019"], {}),
    "a stray photo beside folders of people": (["x/s.jpg", "x/Ann/1.jpg"], [], ["x/Bob"], {"x/Bob": "an empty folder"}),
    "a stray photo at the top": (["s.jpg", "Ann/1.jpg"], [], ["Bob"], {"Bob": "an empty folder"}),
    "only a stray photo": (["s.jpg"], [], ["Bob"], {"Bob": "an empty folder"}),
    "notes beside folders of people": (["x/Ann/1.jpg"], ["x/readme.txt", "readme.txt"], ["x"], {}),
    "odd paths of archives": (["./Ann/1.jpg"], ["./Bob//a.txt"], ["./", "Carl/", "../up"], {
        "Bob": "no photo in it, only a.txt", "Carl": "an empty folder"}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_folders_without_a_photo(case: str) -> None:
    photos, others, folders, expected = CASES[case]
    assert dict(bare_folders(photos, others, folders)) == expected


NAMES = st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join), max_size=6, unique=True)


@given(NAMES, NAMES)
def test_every_folder_is_told_of_or_has_a_photo_near(folders: list[str], photos: list[str]) -> None:
    """Of the folders without subfolders: one that holds a photo is never named; of the others each is, but for those
    that lie, however deep, in a folder of photos."""
    found = dict(bare_folders([f"{folder}/1.jpg" for folder in photos], [], folders))
    every = {"/".join(parts_of(name)[:n]) for name in (*folders, *photos) for n in range(1, len(parts_of(name)) + 1)}
    for folder in every:
        inside = [other for other in every if other.startswith(folder + "/")]
        if inside or folder in photos:
            assert folder not in found
        elif not any(folder.startswith(photo + "/") for photo in photos):
            assert found[folder] == "an empty folder"
    assert set(found) <= every
