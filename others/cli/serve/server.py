"""The page and what it asks for, by HTTP, for this machine alone.

    GET /                      the page, which holds nothing secret; all others need the key, in a header
    GET /about                 what the page has to know
    POST /pictures?name=...    a file -> {"id": ...}, with the options noise and strength
    GET /pictures/ID           how far it is
    GET /pictures/ID/before    as a PNG for browsers that do not show the file itself; also .../after
    GET /pictures/ID/result    what `denoise` writes; the picture is dropped when all of it was sent
    DELETE /pictures/ID        drops it

Other sites cannot ask: they do not know the key, which stands behind the # of the address that is printed and so goes
into no log; the header would need a permission (CORS) that is never given; Host and Origin have to be this machine.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import secrets
import shutil
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import Any
from urllib.parse import parse_qsl, quote

from ... import pictures
from ..streams import one_line, program, words
from .desk import LARGEST, Desk, Held, Refused

PAGE = Path(__file__).with_name("page.html")
HOST = "127.0.0.1"
NAMES = HOST, "localhost"  # by which a browser may know this machine; no other resolves here by accident
KEY = "X-Noise2noise-Key"
PATIENCE = 30.0  # seconds for which a connection may be silent
DRAINED = 2**20  # bytes that are read of a refused request, so that the other side gets to read why
CHUNK = 2**18
TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "BMP": "image/bmp", "TIFF": "image/tiff"}
HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
POLICY = (
    "default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; img-src blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)


class Server(ThreadingHTTPServer):
    """Listens on 127.0.0.1. options(asked) are a picture's, complain(text) says what went wrong here."""

    daemon_threads = True
    allow_reuse_address = os.name == "posix"  # elsewhere it would share a port that is in use
    allow_reuse_port = False

    def __init__(
        self,
        port: int,
        desk: Desk,
        about: dict[str, object],
        options: Callable[[dict[str, str]], dict[str, object]],
        complain: Callable[[str], object],
    ) -> None:
        self.desk, self.about, self.options, self.complain = desk, about, options, complain
        self.key = secrets.token_urlsafe(24)
        self.page = PAGE.read_bytes()
        self.policy = policy(self.page.decode())
        self.previewing = threading.Lock()  # one at a time: each takes memory
        try:
            super().__init__((HOST, port), Handler)
        except OSError as error:
            said = f"cannot listen on port {port} of {HOST} ({error.strerror})"
            raise OSError(f"{said}; choose another with --port, or --port 0 for any that is free") from error

    def server_bind(self) -> None:
        """Without looking for the machine's name, which may take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_port}/#{self.key}"

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Requests are answered inside of the block, by threads of their own."""
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.shutdown()
            thread.join()

    def handle_error(self, request: object, client_address: object) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):  # the other side went away
            self.complain(f"a request failed: {type(error).__name__}: {error}")


def policy(page: str) -> str:
    """The page's own script and style run, and nothing else. (Content Security Policy 3)"""
    found = {tag: re.search(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL) for tag in ("script", "style")}
    digests = {tag: hashlib.sha256(match[1].encode()).digest() for tag, match in found.items() if match}
    return POLICY.format(**{tag: base64.b64encode(digest).decode() for tag, digest in digests.items()})


class Handler(BaseHTTPRequestHandler):
    """One connection. Every error is answered by {"error": one line}."""

    server: Server
    protocol_version = "HTTP/1.1"
    timeout = PATIENCE

    def answer(self) -> None:
        """A request."""
        self.unread, self.answered = self.command == "POST", False
        try:
            self.check_sender()
            self.route()
        except Refused as refused:
            self.refuse(refused.status, refused.text)
        except OSError as error:
            if self.answered or isinstance(error, ConnectionError | TimeoutError):
                raise
            self.refuse(507, words(error))

    do_GET = do_POST = do_DELETE = answer

    def route(self) -> None:
        path, _, query = self.path.partition("?")
        if (self.command, path) == ("GET", "/"):
            self.reply(
                200, self.server.page, "text/html; charset=utf-8", {"Content-Security-Policy": self.server.policy}
            )
            return
        self.check_key()
        desk = self.server.desk
        match [self.command, *path.split("/")[1:]]:
            case ["GET", "about"]:
                self.reply_json(200, self.server.about)
            case ["POST", "pictures"]:
                self.receive(dict(parse_qsl(query, keep_blank_values=True)))
            case ["GET", "pictures", id]:
                self.reply_json(200, desk.report(desk.find(id)))
            case ["GET", "pictures", id, ("before" | "after") as which]:
                self.reply(200, self.preview(desk.find(id), which), "image/png")
            case ["GET", "pictures", id, "result"]:
                self.send_result(desk.find(id))
            case ["DELETE", "pictures", id]:
                desk.drop(desk.find(id))
                self.reply_json(200, {})
            case _:
                raise Refused(404, "no such address")

    # ------------------------------------------------------------------------------------------------- who asks

    def check_sender(self) -> None:
        """Raise Refused for a page of another site: one that calls itself by a name that leads here, or that says where
        it comes from."""
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or re.sub(r":\d+\Z", "", hosts[0], flags=re.ASCII) not in NAMES:
            raise Refused(403, f"expected a request to {HOST}")
        if any(origin != f"http://{hosts[0]}" for origin in self.headers.get_all("Origin", [])):
            raise Refused(403, "expected a request from the page itself")

    def check_key(self) -> None:
        given = self.headers.get(KEY, "").encode()
        if not hmac.compare_digest(given, self.server.key.encode()):
            raise Refused(403, "expected the key; open the whole address that the command printed")

    # ------------------------------------------------------------------------------------------------- pictures

    def receive(self, asked: dict[str, str]) -> None:
        """Take an upload. One that is cut leaves nothing."""
        size, desk = self.length(), self.server.desk
        held, file = desk.take(asked.get("name", ""), size, self.server.options(asked))
        try:
            with file:
                self.copy(size, file.write)
        except BaseException:
            desk.drop(held)
            raise
        self.unread = False
        desk.arrived(held)
        self.reply_json(201, {"id": held.id})

    def length(self) -> int:
        """The bytes of the file that comes. Raises Refused."""
        given = self.headers.get_all("Content-Length", [])
        if len(given) != 1 or "Transfer-Encoding" in self.headers or not re.fullmatch("[0-9]{1,18}", given[0]):
            raise Refused(411, "expected the length of the file, in Content-Length")
        if int(given[0]) > LARGEST:
            raise Refused(413, f"the file has more than {LARGEST // 2**20} MiB; use {program()} denoise")
        return int(given[0])

    def copy(self, size: int, write: Callable[[bytes], object]) -> None:
        """Raises ConnectionError if the other side stops before."""
        while size:
            chunk = self.rfile.read1(min(CHUNK, size))
            if not chunk:
                raise ConnectionAbortedError("cut")
            write(chunk)
            size -= len(chunk)

    def preview(self, held: Held, which: str) -> bytes:
        """A PNG of the picture that came, or of the result, both in the range of the one that came."""
        with self.server.previewing:
            self.server.desk.opened(held).close()
            try:
                ranges = pictures.range_of(held.source)
                return pictures.preview(held.source if which == "before" else held.target, ranges)
            except (OSError, ValueError, RuntimeError, MemoryError) as error:
                raise Refused(500, held.failed(error)) from error

    def send_result(self, held: Held) -> None:
        with self.server.desk.opened(held) as file:
            size = os.fstat(file.fileno()).st_size
            disposition = f"attachment; filename*=UTF-8''{quote(held.download, safe='')}"
            kind = TYPES[pictures.FORMATS[held.target.suffix]]
            self.start(200, size, kind, {"Content-Disposition": disposition})
            shutil.copyfileobj(file, self.wfile, CHUNK)
        self.wfile.flush()
        self.server.desk.drop(held)

    # -------------------------------------------------------------------------------------------------- answers

    def start(self, status: int, size: int, kind: str, more: dict[str, str] | None = None) -> None:
        self.answered = True
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(size), **HEADERS, **(more or {})}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def reply(self, status: int, content: bytes, kind: str, more: dict[str, str] | None = None) -> None:
        self.start(status, len(content), kind, more)
        self.wfile.write(content)

    def reply_json(self, status: int, content: dict[str, Any]) -> None:
        self.reply(status, json.dumps(content).encode(), "application/json")

    def refuse(self, status: int, text: str) -> None:
        """Say why, and end the connection: what else comes on it may be the rest of a file."""
        self.close_connection = True
        self.reply_json(status, {"error": one_line(text)})
        with suppress(OSError):
            if self.unread:
                self.drain()

    def drain(self) -> None:
        """Closing a connection of which not all was read takes the answer away from the other side."""
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_WR)
        self.connection.settimeout(1)
        left = DRAINED
        while left > 0 and (chunk := self.rfile.read1(CHUNK)):
            left -= len(chunk)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What http.server itself refuses: no HTTP, another method, headers without end. It is not repeated."""
        self.unread, self.request_version = True, self.protocol_version
        self.refuse(code, HTTPStatus(code).phrase)

    def version_string(self) -> str:
        return "noise2noise"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: one line for each picture is enough."""
