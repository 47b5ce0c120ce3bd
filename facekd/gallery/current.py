"""A gallery in a process that stays: opened once, and always as it is now."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from facekd.gallery.gallery import GalleryTable
from facekd.gallery.meta import META
from facekd.gallery.place import Place, check_fork

Stamp = tuple[bytes | None, tuple[int, int] | None]


class CurrentGallery:
    """The gallery at a place, whoever else writes, erases or replaces it; any thread may ask.

    Args:
        where: a folder or ``s3://`` prefix.
        model_id: of the model it has to be of.
    """

    def __init__(self, where: Place | Path | str, model_id: str) -> None:
        self.place = Place.of(where)
        self._model_id = model_id
        self._begin()

    def _begin(self) -> None:
        self._process, self._lock = os.getpid(), threading.Lock()
        self._opened: tuple[Stamp, GalleryTable] | None = None

    def now(self) -> GalleryTable:
        """The gallery with the latest that was committed; to be read, not written.

        Raises:
            UserError: no gallery there, a damaged one, one of another model, or a fork of a process that used one.
        """
        if self._process != os.getpid():
            check_fork(self.place)  # before the parent's table is let go of
            self._begin()
        with self._lock:
            stamp = self._stamp()
            if self._opened is None or self._opened[0] != stamp:
                self._opened = stamp, GalleryTable.open(self.place, self._model_id)
            table = self._opened[1]
            table.refresh()
            return table

    def _stamp(self) -> Stamp:
        """Another one after each enrollment, and where another gallery was put in this one's place."""
        if self.place.remote:
            return self.place.read(META), None
        try:
            status = (self.place.folder / META).stat()
        except OSError:
            return None, None  # opening it says what is wrong
        return None, (status.st_mtime_ns, status.st_ino)
