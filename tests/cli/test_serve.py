"""`noise2noise serve`: requests as the page sends them, requests that others might send, and a real browser."""

import base64
import hashlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from urllib.parse import urlencode

import browser
import pytest
import torch

from others import cli, pictures
from others.cli import serve
from others.cli.serve import desk as desks
from others.cli.serve.server import KEY, Handler
from others.diagnose import noise

pytest.importorskip("PIL")
pytest.importorskip("tifffile")


class Site:
    """A served page, as a client on this machine sees it."""

    def __init__(self, desk, server, folder):
        self.desk, self.server, self.folder = desk, server, folder

    def ask(self, method, path, body=None, **headers):
        """-> (status, headers, body); a header of None is not sent."""
        given = {KEY: self.server.key, **{name.replace("_", "-"): value for name, value in headers.items()}}
        line = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=30)
        try:
            line.request(method, path, body, {name: value for name, value in given.items() if value is not None})
            answer = line.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            line.close()

    def raw(self, request):
        """What comes on a connection after these bytes, which are the last."""
        with socket.create_connection(("127.0.0.1", self.server.server_port), timeout=30) as line:
            line.sendall(request)
            line.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: line.recv(65536), b""))

    def send(self, body, name="x.png", **options):
        """The id of a picture that was taken."""
        status, _, answer = self.ask("POST", f"/pictures?{urlencode({'name': name, **options})}", body)
        assert status == 201, answer
        return json.loads(answer)["id"]

    def report(self, id):
        return json.loads(self.ask("GET", f"/pictures/{id}")[2])

    def wait(self, id, *states):
        until = time.monotonic() + 60
        while (report := self.report(id)).get("state") not in (states or ("done", "failed")):
            assert time.monotonic() < until and "state" in report, report
            time.sleep(0.01)
        return report

    def files(self):
        return sorted(path.name for path in self.desk.folder.iterdir())


@pytest.fixture
def serving(tmp_path, monkeypatch):
    """serving(*arguments): a Site; nothing is left of it on the disk at the end."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(
        noise, "judge", lambda: type("Judge", (), {"drawn": lambda self, part: torch.full((1,), -1.0)})()
    )
    ends = []

    def start(*arguments):
        context = serve.serving(cli.parser().parse_args(["serve", "--port", "0", *map(str, arguments)]))
        desk, server = context.__enter__()
        worker = threading.Thread(target=desk.work)
        worker.start()
        ends.append((context, desk, worker))
        return Site(desk, server, folder)

    yield start
    for context, desk, worker in ends:
        desk.close()
        worker.join()
        context.__exit__(None, None, None)
    assert list(folder.iterdir()) == []


@pytest.fixture
def site(serving, weights):
    return serving("--weights", weights)


@pytest.fixture
def held(site, monkeypatch):
    """A Site whose first picture waits in the middle of being denoised: (site, go)."""
    go, real = threading.Event(), site.desk.denoise

    def slow(picture):
        while not go.wait(0.01):
            site.desk.advance(picture, 1, 3)
        real(picture)

    monkeypatch.setattr(site.desk, "denoise", slow)
    yield site, go
    go.set()


@pytest.fixture
def png(tmp_path, picture, save):
    return save(tmp_path / "x.png", picture()).read_bytes()


# ------------------------------------------------------------------------------------------------------ what is asked


@pytest.mark.parametrize("name, dtype", [("x.png", torch.uint8), ("x.JPG", torch.uint8), ("x.tif", torch.uint16)])
def test_the_result_is_that_of_the_command_line(tmp_path, here, site, weights, picture, save, name, dtype):
    """Bit for bit, and the page says what the command says."""
    save(tmp_path / name.lower(), picture(40, 50, dtype=dtype)).rename(tmp_path / name)
    status, stdout, _ = here("denoise", name, "--weights", weights, "--strength", 0.7)
    assert status == 0
    id = site.send((tmp_path / name).read_bytes(), name, strength=0.7)
    report = site.wait(id)
    status, headers, result = site.ask("GET", f"/pictures/{id}/result")
    expected = tmp_path / name.replace(".", "-denoised.")
    assert (status, result) == (200, expected.read_bytes())
    assert headers["Content-Disposition"] == f"attachment; filename*=UTF-8''{expected.name}"
    assert report["said"].split("; ")[0] == stdout.split("(")[1].split("; ")[0] and "sigma" in report["said"]
    assert report["download"] == expected.name


def test_the_choice_of_weights(tmp_path, here, serving, picture, save):
    """The shipped ones, by name and by what a picture looks like."""
    source = save(tmp_path / "x.png", picture(40, 50))
    site = serving("--device", "cpu")
    results = {}
    for choice in ("camera", "pixels", "auto"):
        assert here("denoise", "x.png", "--device", "cpu", "--noise", choice, "--force")[0] == 0
        id = site.send(source.read_bytes(), noise=choice)
        assert (
            site.wait(id)["said"].split(": ")[1].split(";")[0]
            == f"{'prescribed' if choice == 'pixels' else 'camera'} weights"
        )
        results[choice] = site.ask("GET", f"/pictures/{id}/result")[2]
        assert results[choice] == (tmp_path / "x-denoised.png").read_bytes()
    assert results["camera"] == results["auto"] != results["pixels"]


def test_notes_are_told(tmp_path, site, picture, save):
    """A file of another format than its name, and a picture of 12 bits in 16."""
    tiff = save(tmp_path / "y.tif", (picture(dtype=torch.uint16).to(torch.int32) // 16).to(torch.uint16))
    notes = site.wait(site.send(tiff.read_bytes(), "y.png"))["notes"]
    assert notes[0] == "a TIFF by its content, written as PNG" and notes[1].endswith(
        "4095 white (found); noise2noise denoise --range LOW HIGH sets it"
    )


def test_what_the_page_knows(serving, weights):
    own = json.loads(serving("--weights", weights).ask("GET", "/about")[2])
    assert (own["noises"], own["own"]) == ([], "small.pth")
    shipped = json.loads(serving("--denoiser", "rednet").ask("GET", "/about")[2])
    assert (shipped["noises"], shipped["own"], shipped["strongest"]) == ([], "rednet", 1.5)
    free = json.loads(serving().ask("GET", "/about")[2])
    assert (free["noises"], free["own"]) == (["auto", "camera", "pixels"], "")
    assert free["formats"] == list(pictures.FORMATS)


def test_the_page_holds_nothing_from_elsewhere(site):
    """One file, whose policy lets its own script and style alone run."""
    status, headers, page = site.ask("GET", "/", **{KEY: None})
    text = page.decode()
    assert status == 200 and site.server.key not in text
    assert set(re.findall(r"\w+://[^'\"]+", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<(script|link|img|style)\b[^>]*\b(src|href)=.(?!data:)", text)
    assert not re.search(r"\bstyle=|\bon\w+=|innerHTML", text)
    policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
    for tag in ("script", "style"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert policy[f"{tag}-src"] == f"'sha256-{digest}'"
    assert (policy["default-src"], policy["connect-src"], policy["frame-ancestors"]) == ("'none'", "'self'", "'none'")
    assert headers["Cache-Control"] == "no-store" and headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in headers


def test_previews(tmp_path, site, picture, save):
    """Of a TIFF: the picture and the result in 8 bits."""
    source = save(tmp_path / "x.tif", picture(40, 50, dtype=torch.uint16))
    id = site.send(source.read_bytes(), "x.tif")
    assert site.ask("GET", "/pictures/none/before")[0] == 404
    site.wait(id)
    for which in ("before", "after"):
        status, headers, content = site.ask("GET", f"/pictures/{id}/{which}")
        assert (status, headers["Content-Type"]) == (200, "image/png")
        (tmp_path / f"{which}.png").write_bytes(content)
    (tmp_path / "result.tif").write_bytes(site.ask("GET", f"/pictures/{id}/result")[2])
    ranges = pictures.range_of(source)
    for which, file in (("before", source), ("after", tmp_path / "result.tif")):
        (shown,) = pictures.pages(tmp_path / f"{which}.png")
        (meant,) = pictures.pages(file, ranges)
        assert torch.equal(shown, meant.round().to(torch.uint8))


# ----------------------------------------------------------------------------------------------------- who may ask


STRANGERS = {
    "no key": {KEY: None},
    "no key at all": {KEY: ""},
    "another key": {KEY: "x" * 32},
    "a key in other letters": {KEY: "\xfc" * 32},
    "another host": {"Host": "evil.example:8017"},
    "a host that begins alike": {"Host": "127.0.0.1.evil.example"},
    "another site": {"Origin": "http://evil.example"},
    "another port": {"Origin": "http://127.0.0.1:1"},
    "a file": {"Origin": "null"},
    "https": {"Origin": "https://127.0.0.1"},
}


@pytest.mark.parametrize("headers", STRANGERS.values(), ids=STRANGERS)
def test_strangers_get_nothing(site, png, headers):
    for method, path, body in (
        ("POST", "/pictures?name=x.png", png),
        ("GET", "/about", None),
        ("DELETE", "/pictures/x", None),
    ):
        status, got, answer = site.ask(method, path, body, **headers)
        assert status == 403 and list(json.loads(answer)) == ["error"] and b"\n" not in answer
        assert site.server.key.encode() not in answer and "Access-Control-Allow-Origin" not in got
    assert site.desk.held == {} and site.files() == []
    if KEY not in headers:
        assert site.ask("GET", "/", **headers)[0] == 403


def test_no_host_and_two_hosts(site):
    for hosts in (b"", b"Host: 127.0.0.1\r\nHost: evil.example\r\n"):
        assert site.raw(b"GET / HTTP/1.1\r\n" + hosts + b"\r\n").startswith(b"HTTP/1.1 403 ")


def test_no_permission_for_other_sites(site):
    """The question that a browser asks before it sends another site's request with the header."""
    asks = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    status, headers, _ = site.ask("OPTIONS", "/pictures?name=x.png", **asks)
    assert status >= 400 and not [name for name in headers if name.startswith("Access-Control")]


def test_this_machine_by_name_and_by_another_port(site):
    """As a tunnel has it."""
    assert site.ask("GET", "/about", Host="localhost:9000", Origin="http://localhost:9000")[0] == 200


def test_it_listens_here_alone(site):
    assert site.server.socket.getsockname()[0] == "127.0.0.1"
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/#[\w-]{32}", site.server.url)


NO_REQUESTS = [
    b"",
    b"\r\n",
    b"\0\xff" * 50 + b"\r\n\r\n",
    b"GET /../../etc/passwd HTTP/1.1\r\n\r\n",
    b"GET * HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET http://[ HTTP/1.1\r\n\r\n",
    b"BREW / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /" + b"a" * 70_000,
    b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n",
]


@pytest.mark.parametrize("request_", NO_REQUESTS, ids=range(len(NO_REQUESTS)))
def test_what_is_no_request(site, request_, capfd):
    answer = site.raw(request_)
    assert not answer or (re.match(rb"HTTP/1.1 [45]\d\d ", answer) and b'{"error": "' in answer), answer
    assert site.ask("GET", "/about")[0] == 200 and "Traceback" not in capfd.readouterr().err


# --------------------------------------------------------------------------------------------------- what is sent


def test_what_is_too_large(site, monkeypatch):
    """By its length alone: nothing of it is read."""
    head = f"POST /pictures?name=x.png HTTP/1.1\r\nHost: 127.0.0.1\r\n{KEY}: {site.server.key}\r\n"
    answer = site.raw(f"{head}Content-Length: {2**28 + 1}\r\n\r\n".encode() + b"x" * 100_000)
    assert answer.startswith(b"HTTP/1.1 413 ") and b"the file has more than 256 MiB; use noise2noise denoise" in answer
    assert site.files() == []


@pytest.mark.parametrize("lengths", ["", "Content-Length: -1\r\n", "Content-Length: +5\r\n", "Content-Length: 1_0\r\n",
                                     "Content-Length: \u0665\r\n", "Content-Length: 5\r\nContent-Length: 6\r\n",
                                     "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                                     "Transfer-Encoding: chunked\r\n"])  # fmt: skip
def test_no_length(site, lengths):
    head = f"POST /pictures?name=x.png HTTP/1.1\r\nHost: 127.0.0.1\r\n{KEY}: {site.server.key}\r\n{lengths}\r\n"
    answer = site.raw(head.encode() + b"5\r\nhello\r\n0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 411 ") and answer.count(b"HTTP/1.1") == 1 and site.files() == []


@pytest.mark.parametrize("name", ["", "x", ".png", "x.exe", "x.png.", "x.nef", "x.gif", "x.svg", "..", "x.pn\u0261"])
def test_other_names(site, png, name):
    status, _, answer = site.ask("POST", f"/pictures?{urlencode({'name': name})}", png)
    said = json.loads(answer)["error"]
    assert status == 415 and "\n" not in said and site.files() == []
    assert said.startswith(
        {"x.nef": "a camera's raw file", "x.gif": "GIF, which", "x.svg": "SVG, which"}.get(
            name, "no picture by its name; exp"
        )
    )


OPTIONS = [{"noise": "poisson"}, {"noise": ""}, *({"strength": text} for text in ("1.6", "-1", "nan", "x\r\ny: z", ""))]


@pytest.mark.parametrize("options", OPTIONS, ids=ascii)
def test_other_options(site, png, options):
    status, _, answer = site.ask("POST", f"/pictures?{urlencode({'name': 'x.png', **options})}", png)
    assert status == 400 and "expected " in json.loads(answer)["error"] and site.files() == []


NAMES = {
    "../../../etc/passwd.png": "passwd-denoised.png",
    "..\\..\\x.PNG": "x-denoised.PNG",
    'a"b\r\nSet-Cookie: c=d.png': "a_b__Set-Cookie_ c=d-denoised.png",
    "/.png.png": "png-denoised.png",
    "-rf *.png": "-rf _-denoised.png",
    "<img src=x onerror=alert(1)>.png": "_img src=x onerror=alert(1)_-denoised.png",
    "\u202egnp.exe.png": "_gnp.exe-denoised.png",
    "\0.png": "_-denoised.png",
    "..png/": "picture-denoised.png",
    "été 1 (2), été.png": "été 1 (2), été-denoised.png",
    "x" * 300 + ".png": "x" * 100 + "-denoised.png",
}


@pytest.mark.parametrize("name, download", NAMES.items(), ids=map(ascii, NAMES.values()))
def test_names_are_not_trusted(site, png, tmp_path, name, download):
    before = set(tmp_path.rglob("*"))
    id = site.send(png, name)
    report = site.wait(id)
    assert (report["state"], report["download"]) == ("done", download)
    assert site.files() == sorted([f"{id}.png", f"{id}-denoised.png"])
    assert {path.parent for path in set(tmp_path.rglob("*")) - before} == {site.desk.folder}
    disposition = site.ask("GET", f"/pictures/{id}/result")[1]["Content-Disposition"]
    assert re.fullmatch(r"attachment; filename\*=UTF-8''[\w.~%-]+", disposition, re.ASCII)


@pytest.mark.parametrize(
    "garbage, said", [(b"", "the file is empty; copy it anew"),
                      (b"no picture" * 99, "not a picture that can be read; PNG, JPEG, TIFF, BMP and WebP are")],
)  # fmt: skip
def test_garbage(site, png, garbage, said):
    """It is named in one line, as the page names it, and the next picture is denoised."""
    id = site.send(garbage, "a b.png")
    report = site.wait(id)
    assert (report["state"], report["error"]) == ("failed", f"a b.png: {said}")
    assert site.files() == [] and site.ask("GET", f"/pictures/{id}/result")[0] == 409
    assert site.wait(site.send(png))["state"] == "done"


def test_damage(site, png):
    error = site.wait(site.send(png[: len(png) // 2]))["error"]
    assert error.startswith("x.png: damaged or incomplete (") and str(site.folder) not in error


def test_an_error_of_any_kind(site, png, monkeypatch):
    """Also one that nobody foresaw stops nothing."""
    monkeypatch.setattr(serve, "denoise_picture", lambda *_: {}["x"])
    assert site.wait(site.send(png))["state"] == "failed"
    monkeypatch.undo()
    assert site.wait(site.send(png))["state"] == "done"


def test_a_cut_upload_leaves_nothing(site, png, capfd):
    head = f"POST /pictures?name=x.png HTTP/1.1\r\nHost: 127.0.0.1\r\n{KEY}: {site.server.key}\r\n"
    assert site.raw(f"{head}Content-Length: {len(png)}\r\n\r\n".encode() + png[:-1]) == b""
    assert site.desk.held == {} and site.files() == [] and capfd.readouterr().err == ""
    assert site.wait(site.send(png))["state"] == "done"


def test_an_upload_that_stops_is_given_up(site, png, monkeypatch):
    monkeypatch.setattr(Handler, "timeout", 0.2)
    head = f"POST /pictures?name=x.png HTTP/1.1\r\nHost: 127.0.0.1\r\n{KEY}: {site.server.key}\r\n"
    with socket.create_connection(("127.0.0.1", site.server.server_port), timeout=30) as line:
        line.sendall(f"{head}Content-Length: {len(png)}\r\n\r\n".encode() + png[:-1])
        assert line.recv(1) == b""
    assert site.desk.held == {} and site.files() == []


def test_a_full_disk(site, png, monkeypatch):
    """One line says so, and what came is removed."""

    def full(handler, size, write):
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr(Handler, "copy", full)
    status, _, answer = site.ask("POST", "/pictures?name=x.png", png)
    assert (status, json.loads(answer)["error"]) == (507, "somewhere: No space left on device")
    assert site.files() == [] and site.desk.held == {}


# ------------------------------------------------------------------------------------------------ one after another


def test_two_windows_wait_in_one_line(held, png):
    """Each sees its place."""
    site, go = held
    first, second, third = (site.send(png) for _ in range(3))
    assert site.wait(first, "working")["done"] in (0, 1)
    assert [site.report(id)["ahead"] for id in (second, third)] == [1, 2]
    assert site.report(second)["state"] == "waiting" and site.ask("GET", f"/pictures/{second}/before")[0] == 409
    go.set()
    assert [site.wait(id)["state"] for id in (first, second, third)] == ["done"] * 3


def test_what_is_removed_is_not_denoised(held, png):
    """Neither what is being denoised nor what waits."""
    site, _ = held
    first, second = site.send(png), site.send(png)
    site.wait(first, "working")
    for id in (second, first):
        assert site.ask("DELETE", f"/pictures/{id}")[0] == 200
        assert site.ask("GET", f"/pictures/{id}")[0] == 404
    until = time.monotonic() + 30
    while site.files() and time.monotonic() < until:
        time.sleep(0.01)
    assert site.files() == [] and site.desk.line == []


def test_what_is_downloaded_is_dropped(site, png):
    id = site.send(png)
    site.wait(id)
    assert site.ask("GET", f"/pictures/{id}/result")[0] == 200
    status, _, answer = site.ask("GET", f"/pictures/{id}/result")
    assert status == 404 and b"send it again" in answer and site.files() == []


def test_what_nobody_asks_for_is_dropped(site, png, monkeypatch):
    id = site.send(png)
    site.wait(id)
    monkeypatch.setattr(desks, "KEPT", 0)
    with site.desk.changed:
        site.desk.sweep()
    assert site.files() == [] and site.ask("GET", f"/pictures/{id}")[0] == 404


@pytest.mark.parametrize("bound, number", [("MOST", 2), ("SPACE", 5000)])
def test_so_many_are_held(held, png, monkeypatch, bound, number):
    monkeypatch.setattr(desks, bound, number)
    site, _ = held
    ids = []
    while (answer := site.ask("POST", "/pictures?name=x.png", png))[0] == 201:
        ids.append(json.loads(answer[2])["id"])
    assert answer[0] == 503 and json.loads(answer[2])["error"].startswith(f"{len(ids)} pictures are held already")
    assert len(ids) == (2 if bound == "MOST" else number // len(png))
    site.ask("DELETE", f"/pictures/{ids[-1]}")
    assert site.ask("POST", "/pictures?name=x.png", png)[0] == 201


# ----------------------------------------------------------------------------------------------------- the command


def test_a_port_in_use(site, here):
    status, stdout, stderr = here("serve", "--port", site.server.server_port)
    port = site.server.server_port
    said = (
        f"cannot listen on port {port} of 127.0.0.1 (Address already in use); choose another with --port, or --port 0"
    )
    assert (status, stdout) == (1, "") and stderr.startswith(f"noise2noise serve: {said}") and stderr.count("\n") == 1


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_no_port(here, port):
    assert here("serve", "--port", port)[0] == 2


def test_bad_weights_are_told_at_once(here, tmp_path):
    status, _, stderr = here("serve", "--port", 0, "--weights", "none.pth")
    assert status == 1 and "none.pth" in stderr and stderr.count("\n") == 1


@pytest.mark.parametrize("option", [[], ["--open"]])
def test_the_address_is_printed(here, weights, monkeypatch, option):
    """The browser is opened when it is asked for."""
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr(desks.Desk, "work", lambda desk: None)
    status, stdout, stderr = here("serve", "--port", 0, "--weights", weights, *option)
    url = re.fullmatch(r"Open (http://127.0.0.1:\d+/#\S+) in a browser; Ctrl-C ends it.\n", stdout)[1]
    assert (status, stderr, opened) == (0, "", [url] * len(option))


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_a_signal_ends_it_in_the_middle_of_a_picture(tmp_path, environment, weights, picture, save):
    """Nothing is left on the disk."""
    large = save(tmp_path / "x.bmp", picture(1024, 1024)).read_bytes()
    (tmp_path / "temporary").mkdir()
    environment |= {"TMPDIR": str(tmp_path / "temporary")}
    command = [sys.executable, "-m", "others", "serve", "--port", "0", "--weights", weights, "--device", "cpu"]
    for number in (signal.SIGINT, signal.SIGTERM):
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        ) as served:
            port, key = re.search(r":(\d+)/#(\S+)", served.stdout.readline()).groups()
            line = http.client.HTTPConnection("127.0.0.1", int(port), timeout=30)
            for _ in range(3):
                line.request("POST", "/pictures?name=x.bmp", large, {KEY: key})
                assert line.getresponse().read()
            assert list((tmp_path / "temporary").rglob("*.bmp"))
            served.send_signal(number)
            stdout, said = served.communicate(timeout=60)
        if number == signal.SIGINT:  # as the command says itself
            assert served.returncode == 0 and stdout.endswith("The page has ended.\n") and said == ""
        else:
            assert served.returncode == 128 + number and said.count("\n") == 1
            assert said.startswith("noise2noise serve: interrupted;")
        assert list((tmp_path / "temporary").iterdir()) == []


# ---------------------------------------------------------------------------------------------------- in a browser

DROP = """
const [name, content] = arguments, files = new DataTransfer();
files.items.add(new File([Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0))], name));
dispatchEvent(new DragEvent("drop", {dataTransfer: files, cancelable: true}));
"""
SEEN = "return [Number(split.value), parseFloat(after.style.clipPath.split(' ')[3]), pane.clientWidth, pane.scrollLeft]"


@pytest.fixture(scope="module")
def page():
    if browser.MISSING:
        pytest.skip(browser.MISSING)
    with browser.browsing("--window-size=900,700") as page:
        yield page


def test_the_page_in_a_browser(tmp_path, page, here, serving, weights, picture, save):
    """Choose, drop, wait, download: the command line's files, bit for bit; nothing breaks the policy."""
    sources = [save(tmp_path / "x.png", picture()), save(tmp_path / "y.tif", picture(dtype=torch.uint16)),
               save(tmp_path / "z.jpg", picture())]  # fmt: skip
    for source in sources:
        assert here("denoise", source, "--weights", weights, "--strength", 0.5)[0] == 0
    (tmp_path / "bad.png").write_bytes(b"no picture")
    site = serving("--weights", weights)
    page.open(site.server.url.split("#")[0])
    page.wait("problem.innerText.includes('open the whole address that the command printed')")
    assert page.run("return files.disabled")
    page.complaints()

    page.open(site.server.url)
    page.wait("about")
    page.type("#strength", "\ue012" * 10)  # the left arrow: 0.05 each
    assert page.run("return [much.textContent, own.innerText]") == ["0.50", "Weights: small.pth"]
    page.type("#files", "\n".join(map(str, [*sources[:2], tmp_path / "bad.png"])))
    page.run(DROP, "z.jpg", base64.b64encode(sources[2].read_bytes()).decode())
    page.run(DROP, "<b>.exe", "")
    page.wait("items.length == 5 && items.every((item) => ['done', 'failed'].includes(item.state))")
    rows = page.run("return items.map((item) => item.row.innerText)")
    assert all("small.pth" in rows[index] and "strength 0.50" in rows[index] for index in (0, 1, 3))
    assert "bad.png: not a picture that can be read" in rows[2]
    assert "<b>.exe" in rows[4] and "No picture by its name: expected .png," in rows[4]
    for number, source in ((1, sources[0]), (2, sources[1]), (4, sources[2])):
        page.click(f"li:nth-child({number}) .name")  # a TIFF is seen, too
        page.wait(f"chosen === items[{number - 1}] && after.naturalWidth == 30 && before.naturalHeight == 24")
        page.click(f"li:nth-child({number}) .download")
        made = source.with_stem(f"{source.stem}-denoised")
        assert page.downloaded(made.name) == made.read_bytes()
    assert site.files() == [] and page.complaints() == []


def test_the_slider_and_a_command_that_has_ended(tmp_path, monkeypatch, page, site, picture, save):
    """The slider keeps its place over the picture that is moved below it."""
    page.open(site.server.url)
    page.wait("about")
    page.type("#files", save(tmp_path / "wide.png", picture(60, 1500)))
    page.wait("items[0].state == 'done' && after.naturalWidth && after.style.clipPath")
    value, cut, wide, left = page.run(SEEN)
    assert (value, cut, left) == (50, wide / 2, 0) and wide < 900
    page.type("#split", "\ue014" * 4)  # the right arrow: half a per cent each
    value, cut, *_ = page.run(SEEN)
    assert value == 52 and cut == pytest.approx(18 + 0.52 * (wide - 36), abs=0.01)
    page.drag("#split", 200)
    value, cut, *_ = page.run(SEEN)
    assert cut == pytest.approx(wide / 2 + 200, abs=20)  # from wherever the thumb was taken
    page.drag("#pane", -150)
    page.wait("pane.scrollLeft > 100")
    page.wait(f"Math.abs(parseFloat(after.style.clipPath.split(' ')[3]) - pane.scrollLeft - {cut}) < 1")
    assert page.complaints() == []

    lit = "return document.querySelector('.again').classList.contains('main')"
    assert not page.run(lit)
    page.type("#strength", "\ue012")  # the left arrow: what is seen is not what is chosen any more
    assert page.run(lit)
    page.type("#strength", "\ue014")
    assert not page.run(lit)

    site.server.shutdown()
    site.server.server_close()
    monkeypatch.setattr(Handler, "do_POST", lambda handler: setattr(handler, "close_connection", True))
    page.click("li .again")
    page.wait("items[0].row.innerText.includes('If the command serve has ended, start it again')")
    page.click("li .remove")
    assert page.run("return [items.length, viewer.hidden, document.activeElement.id]") == [0, True, "files"]


def test_the_place_in_the_line_and_a_window_that_is_closed(tmp_path, page, held, png):
    """The window sees what is before it; what it sent is dropped with it."""
    site, _ = held
    site.wait(site.send(png), "working")
    (tmp_path / "y.png").write_bytes(png)
    page.open(site.server.url)
    page.wait("about")
    page.type("#files", "\n".join(str(tmp_path / name) for name in ("x.png", "y.png")))
    page.wait("list.innerText.includes('waits: 1 before it') && list.innerText.includes('waits: 2 before it')")
    assert len(site.desk.held) == 3
    page.open("about:blank")
    until = time.monotonic() + 30
    while len(site.desk.held) > 1 and time.monotonic() < until:
        time.sleep(0.01)
    assert len(site.desk.held) == 1
