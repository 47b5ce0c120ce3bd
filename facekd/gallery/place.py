"""Where a gallery lies: a folder, or a prefix of an S3 bucket; small files in it are whole or not there."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs

from facekd.core.files import ASIDE, LOCK, write_bytes
from facekd.errors import UserError


@dataclass(frozen=True, slots=True)
class Place:
    """A folder, or ``s3://bucket/prefix`` on any server that speaks S3.

    Server and keys come from the environment only: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN,
    AWS_REGION (or AWS_DEFAULT_REGION), and AWS_ENDPOINT_URL where it is not Amazon's.
    """

    uri: str

    @classmethod
    def of(cls, where: Place | Path | str) -> Place:
        """The place that a command line names; a Path has made one slash of the two after ``s3:``.

        Raises:
            UserError: keys in the place's name, which would be printed and logged.
        """
        if isinstance(where, Place):
            return where
        if re.match(r"s3:/+([^/]*@|[^/]*:.*@)", str(where)):
            raise UserError(
                "s3://…@…: a gallery's place holds no keys; give s3://BUCKET/PREFIX, and the keys as AWS_ACCESS_KEY_ID "
                "and AWS_SECRET_ACCESS_KEY in the environment"
            )
        found = re.fullmatch(r"s3:/+([^/]+(?:/.+?)?)/*", str(where))
        return cls(f"s3://{found.group(1)}" if found else str(where))

    def __str__(self) -> str:
        return self.uri

    @property
    def remote(self) -> bool:
        """Whether it lies on object storage."""
        return self.uri.startswith("s3://")

    @property
    def folder(self) -> Path:
        """The folder, where it is one."""
        assert not self.remote, self.uri
        return Path(self.uri)

    def begin(self) -> None:
        """Make the folder, for its owner only.

        Raises:
            UserError: something lies there already, or it can't be made.
        """
        if self.remote:
            if not _just_begun(self.files()):
                raise UserError(f"{self}: holds something that is no gallery; choose another prefix")
            return
        folder = self.folder
        if folder.exists() and not (folder.is_dir() and _just_begun(path.name for path in folder.iterdir())):
            raise UserError(f"{folder}: holds something that is no gallery; choose a new or empty folder")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
        except OSError as error:
            raise UserError(f"{folder}: can't be made ({error.strerror}); choose another folder") from error

    def read(self, name: str) -> bytes | None:
        """A file's bytes; None where there is no such file.

        Raises:
            UserError: it can't be read.
        """
        try:
            if not self.remote:
                return (self.folder / name).read_bytes()
            with _bucket().open_input_stream(self._key(name)) as stream:
                data: bytes = stream.read()
                return data
        except FileNotFoundError:
            return None
        except NotADirectoryError:
            return None
        except OSError as error:
            raise UserError(f"{self}/{name}: can't be read ({_first(error)}); check its owner and the path") from error

    def write(self, name: str, data: bytes) -> None:
        """Write a file, whole or not at all.

        Raises:
            UserError: it can't be written.
        """
        if not self.remote:
            write_bytes(self.folder / name, data)
            return
        try:
            with _bucket().open_output_stream(self._key(name)) as stream:  # an object appears when this ends
                stream.write(data)
        except OSError as error:
            raise UserError(
                f"{self}/{name}: can't be written ({_first(error)}); check bucket, keys and AWS_ENDPOINT_URL"
            ) from error

    def files(self) -> dict[str, int]:
        """Every file below it, with its size in bytes.

        Raises:
            UserError: it can't be listed.
        """
        try:
            if not self.remote:
                paths = (path for path in self.folder.rglob("*") if path.is_file())
                return {path.relative_to(self.folder).as_posix(): path.stat().st_size for path in paths}
            root = self._key("")
            selector = pafs.FileSelector(root, recursive=True, allow_not_found=True)
            infos = [info for info in _bucket().get_file_info(selector) if info.type == pafs.FileType.File]
            return {info.path.removeprefix(root).lstrip("/"): info.size for info in infos}
        except OSError as error:
            raise UserError(f"{self}: can't be listed ({_first(error)}); check the path and its owner") from error

    def clear_torn(self) -> None:
        """Remove what killed writers left half-written beside its files; for the one that may write."""
        if not self.remote:
            # LanceDB's too: what it noted of an erasure names the erased.
            for torn in (*self.folder.glob(f".*{ASIDE}"), *self.folder.glob("*.lance/**/.tmp*")):
                torn.unlink(missing_ok=True)

    def _key(self, name: str) -> str:
        return "/".join(filter(None, [self.uri.removeprefix("s3://"), name]))


def _just_begun(names: Iterable[str]) -> bool:
    """Whether these files are all that a first enrollment leaves that is killed before it has written what it began."""
    return all(name in ("contract.json", LOCK) or name.endswith(ASIDE) for name in names)


def storage_options() -> dict[str, str]:
    """What LanceDB needs to know of the server beside the keys, which it takes from the environment itself."""
    endpoint, region = _server()
    options = {"region": region}
    if endpoint:
        options |= {"endpoint": endpoint, "allow_http": str(endpoint.startswith("http://")).lower()}
    return options


_users: list[int] = []  # the process that uses LanceDB, once one does; a forked one finds that of its parent here


def check_fork(place: Place) -> None:
    """Refuse a forked process whose parent used a gallery: LanceDB's threads did not come along, and it would hang.

    Raises:
        UserError: it is one.
    """
    if not _users:
        _users.append(os.getpid())
    if _users[0] != os.getpid():
        raise UserError(
            f"{place}: this process was forked from one that had used a gallery, whose threads did not come along; use "
            "galleries only after the fork, or start processes by 'spawn' or 'forkserver'"
        )


class _Mask:
    """The process's umask while some of its threads are in `private`, and what it was before the first of them."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """As in a new process."""
        self.lock, self.threads, self.before = threading.Lock(), 0, 0


_mask = _Mask()
if hasattr(os, "register_at_fork"):  # where processes fork
    os.register_at_fork(after_in_child=_mask.begin)  # a thread that held the lock did not come along


@contextlib.contextmanager
def private() -> Iterator[None]:
    """What this process creates meanwhile is for its owner only, LanceDB's own files too."""
    with _mask.lock:
        if _mask.threads == 0:
            _mask.before = os.umask(0o077)
        _mask.threads += 1
    try:
        yield
    finally:
        with _mask.lock:
            _mask.threads -= 1
            if _mask.threads == 0:
                os.umask(_mask.before)


@contextlib.contextmanager
def told(place: Place, doing: str) -> Iterator[None]:
    """What LanceDB says when storage fails it, in one sentence.

    Raises:
        UserError: the disk is full, the folder read-only, a file damaged or the server away; or another process
            committed at the same moment.
    """
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:  # LanceDB raises all of them for damaged files
        if "onflict" in str(error):
            raise UserError(f"{place}: another command wrote it at the same moment; run this again") from error
        raise UserError(f"{place}: can't be {doing} ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    """What is wrong in a word where the system said it, and what to do."""
    text = str(error)
    for said, remedy in {
        "No space left on device": "free space and run this again",
        "File too large": "free space and run this again",
        "Read-only file system": "nothing can be written there; copy the gallery",
        "Permission denied": "check its owner",
    }.items():
        if said in text:
            return f"{said}; {remedy}"
    return f"{_first(error)}; copy the gallery again"


def _first(error: Exception) -> str:
    """The first line of what an error says, of bearable length."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _server() -> tuple[str | None, str]:
    get = os.environ.get
    return get("AWS_ENDPOINT_URL_S3") or get("AWS_ENDPOINT_URL"), get("AWS_REGION") or get(
        "AWS_DEFAULT_REGION"
    ) or "us-east-1"


def _bucket() -> pafs.FileSystem:
    return _filesystem(*_server())


@functools.cache
def _filesystem(endpoint: str | None, region: str) -> pafs.FileSystem:
    if endpoint is None:
        return pafs.S3FileSystem(region=region)
    scheme, _, host = endpoint.partition("://")
    return pafs.S3FileSystem(region=region, endpoint_override=host.rstrip("/"), scheme=scheme)


def table_bytes(table: pa.Table) -> bytes:
    """`table` as the bytes of a Parquet file."""
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data
