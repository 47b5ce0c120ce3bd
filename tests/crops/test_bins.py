"""insightface's .bin sets: what real writers pickle is read, what a pickle could do besides is not."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from toy import person

from facekd.core.files import sha256_bytes
from facekd.core.pixels import decode_crop, encode_crop
from facekd.crops.bins import read_bin
from facekd.errors import UserError

IMAGES = [encode_crop(person(i // 2, i)) for i in range(8)]
SAME = [True, False] * 6
PLACES = [i for pair in range(12) for i in (pair % 8, (pair * 3 + 1) % 8)]


def written(path: Path, protocol: int, value: object = None) -> Path:
    path.write_bytes(pickle.dumps(([IMAGES[i] for i in PLACES], SAME) if value is None else value, protocol))
    return path


def check(path: Path) -> None:
    crops, pairs = read_bin(path)
    assert len(crops) == 8  # each image once
    for left, right, place in zip(pairs.left, pairs.right, range(0, 24, 2), strict=True):
        assert crops.encoded(crops.ids.index(left)) == IMAGES[PLACES[place]]
        assert crops.encoded(crops.ids.index(right)) == IMAGES[PLACES[place + 1]]
    assert pairs.same.tolist() == SAME
    assert np.array_equal(crops.pixels(0), decode_crop(IMAGES[PLACES[0]]))
    assert pairs.fold.tolist() == [0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9]  # sklearn.model_selection.KFold(10)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_what_python_3_writes(tmp_path: Path, protocol: int) -> None:
    check(written(tmp_path / "set.bin", protocol))


IN_OTHER_TYPES = {
    "numpy labels": lambda images, same: (images, np.array(same)),
    "numbers as labels": lambda images, same: (images, np.array(same).astype(np.int64)),
    "a list of numpy's truth values": lambda images, same: (images, [np.bool_(label) for label in same]),
    "big-endian labels": lambda images, same: (images, np.array(same).astype(">i2")),
    "labels as floats": lambda images, same: (images, [float(label) for label in same]),
    "numpy images": lambda images, same: ([np.frombuffer(image, np.uint8) for image in images], same),
    "bytearrays": lambda images, same: ([bytearray(image) for image in images], same),
    "arrays of objects": lambda images, same: (np.array(images, object), np.array(same, object)),
    "a list of two lists": lambda images, same: [images, same],
}


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("kind", IN_OTHER_TYPES)
def test_sets_as_people_make_them(tmp_path: Path, kind: str, protocol: int) -> None:
    value = IN_OTHER_TYPES[kind]([IMAGES[i] for i in PLACES], SAME)
    check(written(tmp_path / "set.bin", protocol, value))


def test_an_older_numpy(tmp_path: Path) -> None:
    path = written(tmp_path / "set.bin", 2, ([IMAGES[i] for i in PLACES], np.array(SAME)))
    path.write_bytes(path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    check(path)


def test_pixels_of_no_known_channel_order_are_refused(tmp_path: Path) -> None:
    pixels = [np.zeros((112, 112, 3), np.uint8)] * 2
    with pytest.raises(UserError, match="array of pixels, which does not say the order of its channels"):
        read_bin(written(tmp_path / "set.bin", 4, (pixels, [True])))


def test_a_small_file_that_grows_is_refused(tmp_path: Path) -> None:
    """Asks for the bytes of one long text again and again."""
    text = b"X" + struct.pack("<I", 100_000) + b"a" * 100_000
    again = b"h\x00h\x01h\x02\x86R"
    code = b"\x80\x02c_codecs\nencode\nq\x000" + text + b"q\x010X\x06\x00\x00\x00latin1q\x020](" + again * 1000 + b"e."
    (tmp_path / "bomb.bin").write_bytes(
        code.replace(b"q\x000", b"q\x00").replace(b"q\x010", b"q\x01").replace(b"q\x020", b"q\x02")
    )
    with pytest.raises(UserError, match="it makes more bytes than it has"):
        read_bin(tmp_path / "bomb.bin")


def test_what_python_2_writes(tmp_path: Path) -> None:
    """Its protocol 2 holds ``str``: BINSTRING, or SHORT_BINSTRING below 256 bytes, each memoised."""

    def string(data: bytes) -> bytes:
        return b"T" + struct.pack("<i", len(data)) + data

    parts = [b"\x80\x02]q\x00("]
    parts += [string(IMAGES[i]) + b"q" + bytes([n + 1]) for n, i in enumerate(PLACES)]
    parts += [b"e]q\x7f("] + [b"\x88" if same else b"\x89" for same in SAME] + [b"e\x86q\x80."]
    path = tmp_path / "set.bin"
    path.write_bytes(b"".join(parts))
    assert pickle.loads(path.read_bytes(), encoding="bytes") == ([IMAGES[i] for i in PLACES], SAME)  # a fair example
    check(path)


def test_the_tenths_are_those_of_scikit_learn(tmp_path: Path) -> None:
    from sklearn.model_selection import KFold

    images = [encode_crop(person(i, 0)) for i in range(46)]
    _, pairs = read_bin(written(tmp_path / "set.bin", 4, (images, [i % 2 == 0 for i in range(23)])))
    for number, (_, fold) in enumerate(KFold(10, shuffle=False).split(np.arange(23))):
        assert np.flatnonzero(pairs.fold == number).tolist() == fold.tolist()
    _, few = read_bin(written(tmp_path / "few.bin", 4, (images[:8], [True, False] * 2)))
    assert few.fold.tolist() == [-1] * 4


class Evil:
    """Unpickled, it would write a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_pickle_that_would_run_something_is_refused(tmp_path: Path, protocol: int) -> None:
    mark = tmp_path / "executed"
    evil = written(tmp_path / "evil.bin", protocol, (IMAGES[:2], [Evil(mark)]))
    with pytest.raises(UserError, match=r"evil\.bin: its pickle asks for"):
        read_bin(evil)
    assert not mark.exists()
    pickle.loads(evil.read_bytes())  # so the example is one
    assert mark.exists()


@pytest.mark.parametrize(
    "code",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"(S'true'\nios\nsystem\n.",
        b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00utf-8\x86R.",  # another codec
        b"\x80\x02c_codecs\ndecode\nX\x01\x00\x00\x00aX\x06\x00\x00\x00latin1\x86R.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
        b"\x80\x02c_codecs\nencode\nK\x01X\x06\x00\x00\x00latin1\x86R.",  # a number's bytes
        b"\x80\x02]q\x00h\x00b.",  # BUILD
        b"Pid\n.",
        b"\x80\x02cnumpy\nload\nX\x01\x00\x00\x00a\x85R.",  # another name of numpy's
        b"\x80\x02cnumpy\nndarray\nK\x04\x85R.",  # called
        b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00V8\x85R.",
        b"\x80\x02c__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85R.",  # of a length
        b"\x80\x02c__builtin__\neval\nX\x01\x00\x00\x001\x85R.",
        b"\x80\x02K\x01K\x02\x93.",
        b"\x80\x02\x82\x01.",
    ],
)
def test_every_other_instruction_is_refused(tmp_path: Path, code: bytes) -> None:
    path = tmp_path / "evil.bin"
    path.write_bytes(code)
    with pytest.raises(UserError, match=r"evil\.bin"):
        read_bin(path)


def test_a_set_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    whole = written(tmp_path / "set.bin", 4).read_bytes()
    path = tmp_path / "cut.bin"
    lengths = [*range(0, 60), *range(60, len(whole), 997), len(whole) - 1]
    for length in lengths:
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"cut\.bin"):
            read_bin(path)


def test_noise_gives_a_sentence_or_a_set(tmp_path: Path) -> None:
    """Bytes changed at random never bring anything but a UserError, and never a huge allocation."""
    whole = written(tmp_path / "set.bin", 4).read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        data = np.frombuffer(whole, np.uint8).copy()
        head = rng.random() < 0.7
        places = rng.integers(0, 40 if head else len(data), 3)
        data[places] = rng.integers(0, 256, 3)
        path = tmp_path / "noise.bin"
        path.write_bytes(data.tobytes())
        try:
            read_bin(path)
        except UserError:
            refused += 1
    assert refused > 100
    path.write_bytes(b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"abc")  # announces four exabytes
    with pytest.raises(UserError, match=r"noise.bin: not a whole"):
        read_bin(path)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ((IMAGES[:3], [True, False]), "3 images for 2 pairs"),
        (([], []), "holds no pair"),
        ((IMAGES[:2], [2]), "labels is not True or False"),
        ((IMAGES[:2], ["yes"]), "labels is not True or False"),
        (([1, 2], [True]), "images is not bytes"),
        ((["é€", "x"], [True]), "images is not bytes"),
        (IMAGES[:2], "no list of images"),
        (17, "no list of images"),
        (([b"no image", b"no image"], [True]), "no readable image"),
    ],
)
def test_what_is_no_set(tmp_path: Path, value: object, words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_bin(written(tmp_path / "set.bin", 4, value))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such"):
        read_bin(tmp_path / "none.bin")


def test_an_id_is_the_digest_of_the_bytes(tmp_path: Path) -> None:
    crops, _ = read_bin(written(tmp_path / "set.bin", 4))
    assert set(crops.ids) == {sha256_bytes(image)[:16] for image in IMAGES}
    assert set(crops.identities) == {None}
