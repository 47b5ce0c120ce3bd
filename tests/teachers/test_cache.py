"""The teacher's cache gives the very view's embedding, goes on after a kill, and notices what is not its own."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from facekd.errors import UserError
from facekd.teachers.cache import BLOCK, CacheKey, TeacherCache, caches, open_cache, remove, unused

KEY_OF = CacheKey(teacher="t1", augmentation="a1", crops="c1", num_crops=2 * BLOCK + 30, dim=16, seed=0, views=3)


def embed(crops: np.ndarray, views: np.ndarray) -> np.ndarray:
    """A teacher: every view of every crop somewhere else on the sphere."""
    rows = [np.random.default_rng([crop, view]).standard_normal(16) for crop, view in zip(crops, views, strict=True)]
    return np.stack([row / np.linalg.norm(row) for row in rows]).astype(np.float32)


def fill(cache: TeacherCache, most: int = 10**9) -> None:
    with cache.writing():
        for view, block in cache.missing()[:most]:
            crops = np.arange(cache.key.num_crops)[cache.span(block)]
            cache.put(view, block, embed(crops, np.full(len(crops), view)))


@pytest.fixture
def full(tmp_path: Path) -> TeacherCache:
    cache = open_cache(tmp_path, KEY_OF)
    fill(cache)
    return cache


def test_rows_are_those_of_the_very_view(full: TeacherCache) -> None:
    rng = np.random.default_rng(1)
    crops, views = rng.integers(0, KEY_OF.num_crops, 200), rng.integers(0, 9, 200)
    rows = full.rows(crops, views)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, embed(crops, views % 3), atol=5e-4)
    full.check(embed)
    assert full.missing() == []
    again = open_cache(full.folder.parent, KEY_OF)
    assert np.array_equal(again.rows(crops, views), rows)


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(CacheKey)])
def test_any_other_key_is_another_cache(full: TeacherCache, field: str) -> None:
    value = getattr(KEY_OF, field)
    other = dataclasses.replace(KEY_OF, **{field: value + 1 if isinstance(value, int) else f"{value}x"})
    cache = open_cache(full.folder.parent, other)
    assert cache.folder != full.folder
    assert len(cache.missing()) == cache.key.views * cache.num_blocks


def test_it_goes_on_where_it_was(tmp_path: Path) -> None:
    cache = open_cache(tmp_path, KEY_OF)
    fill(cache, most=4)
    assert open_cache(tmp_path, KEY_OF).missing() == [(1, 1), (1, 2), (2, 0), (2, 1), (2, 2)]
    with pytest.raises(UserError, match=r"rows 256 to 511 of view 1 are missing or were changed"):
        cache.check(embed)


@pytest.mark.slow
def test_killed_at_any_moment_it_holds_whole_blocks_only(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path[:0] = [sys.argv[2]]; from test_cache import *\n"
        "cache = open_cache(Path(sys.argv[1]), KEY_OF); print('begun', flush=True); fill(cache)"
    )
    rng = np.random.default_rng(0)
    kept = []
    for attempt in range(12):
        home = tmp_path / str(attempt)
        run = subprocess.Popen(
            [sys.executable, "-c", code, str(home), str(Path(__file__).parent)], stdout=subprocess.PIPE
        )
        assert run.stdout is not None
        run.stdout.readline()
        time.sleep(rng.uniform(0, 0.08))
        run.send_signal(signal.SIGKILL)
        run.communicate()
        cache = open_cache(home, KEY_OF)
        kept.append(9 - len(cache.missing()))
        fill(cache)
        cache.check(embed)
    print("blocks kept at the kills:", kept)
    assert len(set(kept)) > 1


def test_swapped_moved_and_damaged_rows_are_found(full: TeacherCache) -> None:
    path = full.folder / "embeddings.f16"
    whole = path.read_bytes()
    rows = np.frombuffer(whole, np.float16).reshape(3, KEY_OF.num_crops, 16).copy()
    rows[1, [7, 300]] = rows[1, [300, 7]]
    path.write_bytes(rows.tobytes())
    with pytest.raises(UserError, match=r"rows 0 to 255 of view 1 are missing or were changed"):
        TeacherCache(full.folder, KEY_OF).check(embed)
    path.write_bytes(whole[:-2])
    with pytest.raises(UserError, match=r"bytes long where \d+ are needed"):
        open_cache(full.folder.parent, KEY_OF)


def test_a_mirrored_views_embedding_is_not_taken(full: TeacherCache) -> None:
    """As in ANCHORS' torchdistill thread: right bytes, wrong view."""
    with pytest.raises(UserError, match=r"is kept as another embedding than the teacher gives now \(cosine"):
        full.check(lambda crops, views: embed(crops, views + 1))


def test_what_the_teacher_cannot_say_is_refused(tmp_path: Path) -> None:
    cache = open_cache(tmp_path, KEY_OF)
    vectors = embed(np.arange(BLOCK), np.zeros(BLOCK, int))
    for value in (np.nan, np.inf, 1e5):
        vectors[17, 3] = value
        with cache.writing(), pytest.raises(UserError, match=r"no embedding that half precision holds of crop 273"):
            cache.put(2, 1, vectors)
    assert (2, 1) in cache.missing()


def test_one_process_writes_and_a_full_disk_is_said(tmp_path: Path) -> None:
    cache = open_cache(tmp_path, KEY_OF)
    with cache.writing(), pytest.raises(UserError, match="another command is writing it"):
        remove(cache.folder)
    huge = dataclasses.replace(KEY_OF, num_crops=10**12)
    with pytest.raises(UserError, match=r"can't take \d+ MiB .*use fewer --views"):
        open_cache(tmp_path, huge)


def test_what_nobody_uses_can_be_removed(full: TeacherCache) -> None:
    home = full.folder.parent
    old = open_cache(home, dataclasses.replace(KEY_OF, seed=5))
    os.utime(old.folder / "key.json", (0, 0))
    torn = home / "torn"
    shutil.copytree(full.folder, torn)
    (torn / "key.json").unlink()
    assert [cache.folder for cache in caches(home)] == [old.folder, full.folder]
    assert unused(home, days=1) == sorted([old.folder, torn])
    assert remove(old.folder) > 3 * KEY_OF.num_crops * 16 * 2
    assert [cache.folder for cache in caches(home)] == [full.folder]
    assert (full.folder / "embeddings.f16").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["embeddings.f16", "blocks.u32"])
def test_a_link_is_replaced_and_what_it_names_left_alone(tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim.txt"
    victim.write_text("precious\n")
    folder = tmp_path / "home" / KEY_OF.name
    folder.mkdir(parents=True)
    (folder / name).symlink_to(victim)
    fill(open_cache(tmp_path / "home", KEY_OF))
    assert victim.read_text() == "precious\n"
    assert not (folder / name).is_symlink()


def test_a_link_in_a_whole_cache_is_refused(full: TeacherCache, tmp_path: Path) -> None:
    rows = full.folder / "embeddings.f16"
    rows.rename(tmp_path / "elsewhere")
    rows.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is a link"):
        open_cache(full.folder.parent, KEY_OF)


@pytest.mark.parametrize("whole", [False, True])
def test_a_link_in_place_of_a_caches_folder_is_refused_and_what_it_leads_to_left_alone(
    tmp_path: Path, whole: bool
) -> None:
    """Its name is known beforehand: whoever may write the caches' home could lay it there."""
    victim, home = tmp_path / "victim", tmp_path / "home"
    if whole:
        fill(open_cache(tmp_path, KEY_OF))
        (tmp_path / KEY_OF.name).rename(victim)
    else:
        victim.mkdir()
        (victim / "embeddings.f16").write_text("precious")
    before = {path.name: path.read_bytes() for path in victim.iterdir()}
    home.mkdir()
    (home / KEY_OF.name).symlink_to(victim)
    with pytest.raises(UserError, match="is a link, not a cache's own folder; remove it"):
        open_cache(home, KEY_OF)
    if whole:
        with pytest.raises(UserError, match="is a link, not a cache's own folder; remove it"):
            caches(home)
    for folder in unused(home, days=-1):
        assert remove(folder) == 0
    assert list(home.iterdir()) == []
    assert {path.name: path.read_bytes() for path in victim.iterdir()} == before


def test_a_cache_with_a_link_to_nothing_is_removed_and_a_damaged_key_said(full: TeacherCache) -> None:
    (full.folder / "more").symlink_to(full.folder / "nowhere")
    (full.folder / "key.json").write_text("")
    with pytest.raises(UserError, match=r"key\.json: not readable as JSON .*; remove .* and it is built anew"):
        open_cache(full.folder.parent, KEY_OF)
    assert remove(full.folder) > 0
    assert not full.folder.exists()
