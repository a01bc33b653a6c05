"""The pictures that the page has sent: they wait in a line, one is denoised at a time, and results are fetched."""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ... import pictures
from ..streams import one_line, words

LARGEST = 2**28  # bytes of a picture's file
MOST = 64  # pictures that are held
SPACE = 2**32  # bytes that they may have in all, with their results
KEPT = 600.0  # seconds for which a picture is held that no page asks for
PAUSE = 1.0  # seconds between two looks at what is held for too long


class Refused(Exception):
    """A request that is not answered. status: that of HTTP; text: one line that says why."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(status, text)
        self.status, self.text = status, text


class Dropped(Exception):
    """Nobody waits for the picture that is being denoised."""


class Held:
    """A picture: its files, and how far it is. Of the name that the page sent, the files have the suffix alone.

    state: "arriving", "waiting", "working", "done" or "failed". name: for people and for what is downloaded. said:
    what was found. page, done, total: tiles of the page that is being denoised.
    """

    def __init__(self, folder: Path, sent: str, size: int, options: dict[str, object]) -> None:
        self.id = secrets.token_urlsafe(12)
        stem, suffix = split(sent)
        self.name, self.download = f"{stem}{suffix}", f"{stem}-denoised{suffix}"
        self.source, self.target = (folder / f"{self.id}{which}{suffix.lower()}" for which in ("", "-denoised"))
        self.size, self.options = size, options
        self.state, self.said, self.error = "arriving", "", ""
        self.notes: list[str] = []
        self.page = self.done = self.total = 0
        self.asked = time.monotonic()

    def remove(self) -> None:
        """The files; Windows keeps what is open."""
        for path in (self.source, self.target):
            with suppress(OSError):
                path.unlink()

    def failed(self, error: Exception) -> str:
        """What an exception says, in one line, with the picture's name in place of the files'."""
        said = one_line(words(error)).replace(str(self.source), self.name)
        return said.replace(str(self.target), self.download)


def split(sent: str) -> tuple[str, str]:
    """(stem, suffix) of the name that the page sent: letters, digits and few signs, whatever was sent. Raises Refused
    unless the suffix is one of `pictures.FORMATS`."""
    path = PurePosixPath(sent.replace("\\", "/"))
    if not path.suffix.isascii() or path.suffix.lower() not in pictures.FORMATS:
        why = pictures.unread(path.suffix) or f"no picture by its name; expected one in {', '.join(pictures.FORMATS)}"
        raise Refused(415, why)
    stem = re.sub(r"[^\w .()+=,-]", "_", path.stem).strip(" .")
    return stem[:100].strip(" .") or "picture", path.suffix


class Desk:
    """The pictures that are held, in a folder. denoise(held) writes held.target from held.source."""

    def __init__(self, folder: Path, denoise: Callable[[Held], None]) -> None:
        self.folder, self.denoise = folder, denoise
        self.held: dict[str, Held] = {}
        self.line: list[Held] = []
        self.working: Held | None = None
        self.closed = False
        self.changed = threading.Condition()

    # ------------------------------------------------------------------------------------- what requests ask for

    def take(self, sent: str, size: int, options: dict[str, object]) -> tuple[Held, BinaryIO]:
        """(a place for a picture, the file that it is to be written to). Raises Refused where there is none."""
        with self.changed:
            self.sweep()
            if self.closed:
                raise Refused(503, "the command is ending")
            if len(self.held) >= MOST or size + sum(held.size for held in self.held.values()) > SPACE:
                raise Refused(503, f"{len(self.held)} pictures are held already; wait until some are done")
            held = Held(self.folder, sent, size, options)
            file = held.source.open("xb")
            self.held[held.id] = held
        return held, file

    def arrived(self, held: Held) -> None:
        """The picture is whole: it waits."""
        with self.changed:
            if held.id in self.held:
                held.state = "waiting"
                self.line.append(held)
                self.changed.notify()
            else:
                held.remove()

    def find(self, id: str) -> Held:
        """The picture, which is held for longer. Raises Refused if there is none."""
        with self.changed:
            if id not in self.held:
                raise Refused(404, "no such picture; it was downloaded, replaced, or held for too long: send it again")
            self.held[id].asked = time.monotonic()
            return self.held[id]

    def report(self, held: Held) -> dict[str, object]:
        """How far a picture is."""
        with self.changed:
            ahead = self.line.index(held) + (self.working is not None) if held in self.line else 0
        names = "state", "name", "download", "said", "notes", "error", "page", "done", "total"
        return {"ahead": ahead, **{name: getattr(held, name) for name in names}}

    def opened(self, held: Held) -> BinaryIO:
        """The result. Raises Refused unless there is one."""
        with self.changed:
            if held.state != "done" or held.id not in self.held:
                raise Refused(409, "the picture is not denoised")
            return held.target.open("rb")

    def drop(self, held: Held) -> None:
        """Hold it no longer. If it is being denoised that ends soon."""
        with self.changed:
            self.held.pop(held.id, None)
            if held in self.line:
                self.line.remove(held)
            if held is not self.working:
                held.remove()

    def sweep(self) -> None:
        """Drop what no page has asked for."""
        for held in [held for held in self.held.values() if time.monotonic() - held.asked > KEPT]:
            self.drop(held)

    def close(self) -> None:
        """`work` ends, and no new files are made."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    # ---------------------------------------------------------------------------------- what the main thread does

    def work(self) -> None:
        """Denoise what comes, until the desk is closed."""
        while not self.closed:
            with self.changed:
                if not self.line:
                    self.changed.wait(PAUSE)
                self.sweep()
                self.working = self.line.pop(0) if self.line else None
            if self.working:
                self.work_on(self.working)

    def work_on(self, held: Held) -> None:
        held.state, ended = "working", "done"
        try:
            self.denoise(held)
        except Dropped:
            ended = "failed"
        except Exception as error:  # of whatever kind: the next picture is not to suffer
            held.error, ended = held.failed(error), "failed"
        with self.changed:
            self.working = None
            if ended == "failed" or held.id not in self.held:
                held.remove()
            else:
                held.size += held.target.stat().st_size
            held.state = ended

    def advance(self, held: Held, done: int, total: int) -> None:
        """So many tiles of the page are done. Raises Dropped if nobody waits for them."""
        with self.changed:
            self.sweep()
            if self.closed or held.id not in self.held:
                raise Dropped
            held.done, held.total = done, total
