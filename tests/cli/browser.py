"""A headless Chromium, driven by chromedriver over HTTP, with nothing but the standard library.

python tests/cli/browser.py docs/serve.png       the page in use, as docs/command-line.md shows it
"""

import base64
import io
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from others import pictures

PROGRAMS = [shutil.which(name) for name in ("chromium", "chromedriver")]
MISSING = "" if all(PROGRAMS) else "chromium and chromedriver are not installed"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"]  # fmt: skip
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key of an element's name (WebDriver 2, 12.1)
DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Browser:
    """What the tests need of WebDriver. (https://www.w3.org/TR/webdriver2)"""

    def __init__(self, port, folder, *flags):
        self.base, self.folder = f"http://127.0.0.1:{port}", folder
        options = {
            "binary": PROGRAMS[0],
            "args": [*FLAGS, f"--user-data-dir={folder / 'profile'}", *flags],
            "prefs": {"download.default_directory": str(folder), "download.prompt_for_download": False},
        }
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        made = self.ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.base += f"/session/{made['sessionId']}"

    def ask(self, method, path, content=None):
        data = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with DIRECTLY.open(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"]) from error

    def open(self, url):
        self.ask("POST", "/url", {"url": url})

    def run(self, script, *arguments):
        """What a JavaScript function body returns."""
        return self.ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def wait(self, condition, patience=30):
        """Until a JavaScript expression is true; its value."""
        until = time.monotonic() + patience
        while time.monotonic() < until:
            if found := self.run(f"return {condition}"):
                return found
            time.sleep(0.05)
        raise AssertionError(
            f"{condition} did not become true; the page says: {self.run('return document.body.innerText')}"
        )

    def find(self, selector):
        return self.ask("POST", "/element", {"using": "css selector", "value": selector})[ELEMENT]

    def type(self, selector, text):
        """Keys into an element; the names of files into one that takes files."""
        self.ask("POST", f"/element/{self.find(selector)}/value", {"text": str(text)})

    def click(self, selector):
        self.ask("POST", f"/element/{self.find(selector)}/click", {})

    def drag(self, selector, across, down=0):
        """Press the mouse in the middle of an element, and move it by so many pixels."""
        start = {"type": "pointerMove", "origin": {ELEMENT: self.find(selector)}, "x": 0, "y": 0}
        move = {"type": "pointerMove", "origin": "pointer", "x": across, "y": down, "duration": 100}
        moves = [start, {"type": "pointerDown", "button": 0}, move, {"type": "pointerUp", "button": 0}]
        self.ask("POST", "/actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": moves}]})

    def complaints(self):
        """What the console says of errors, broken policies among them."""
        said = self.ask("POST", "/se/log", {"type": "browser"})
        return [entry["message"] for entry in said if entry["level"] in ("WARNING", "SEVERE")]

    def downloaded(self, name, patience=30):
        """What a file holds that is being downloaded. Chromium keeps the name by an empty file, and moves the whole
        one there."""
        until = time.monotonic() + patience
        while time.monotonic() < until:
            with suppress(FileNotFoundError):
                if content := (self.folder / name).read_bytes():
                    return content
            time.sleep(0.02)
        raise AssertionError(f"{name} was not downloaded")

    def screenshot(self):
        return base64.b64decode(self.ask("GET", "/screenshot"))


@contextmanager
def browsing(*flags):
    """with browsing() as a Browser"""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        driver = subprocess.Popen(
            [PROGRAMS[1], "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            line = next(line for line in driver.stdout if "successfully on port" in line)
            browser = Browser(int(line.strip(" .\n").rsplit(" ", 1)[1]), Path(folder), *flags)
            try:
                yield browser
            finally:
                browser.ask("DELETE", "")
        finally:
            driver.terminate()
            driver.wait()
            driver.stdout.close()


def noisy_photographs(folder):
    """Parts of three photographs that come with scikit-image, free to use, with noise that is stronger in the dark."""
    from skimage import data

    generator, made = torch.Generator().manual_seed(0), []
    for name, sigma, left in (("astronaut.png", 16, 0), ("coffee.tif", 9, 40), ("chelsea.jpg", 12, 0)):
        clean = torch.from_numpy(getattr(data, name.split(".")[0])()[:300, left : left + 560].copy()).float() / 255
        noise = torch.randn(clean.shape, generator=generator) * sigma / 255 * (1.4 - clean)
        white, dtype = (65535, torch.uint16) if name.endswith("tif") else (255, torch.uint8)
        page = ((clean + noise).clamp(0, 1) * white).round().to(dtype)
        made.append(folder / name)
        pictures.write(made[-1], pictures.Picture(pictures.FORMATS[made[-1].suffix], [page], {}))
    return made


def photograph(target):
    """Write a picture of the page in use."""
    from PIL import Image

    command = [sys.executable, "-m", "others", "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as served:
        try:
            with browsing("--window-size=820,970", "--hide-scrollbars") as browser:
                sources = noisy_photographs(browser.folder)
                browser.open(served.stdout.readline().split()[1])
                browser.type("#files", "\n".join(map(str, sources)))
                browser.wait(f"document.querySelectorAll('[data-state=done]').length == {len(sources)}", 600)
                browser.wait("frame.clientWidth && after.style.clipPath")
                shown = Image.open(io.BytesIO(browser.screenshot())).convert("RGB")
        finally:
            served.terminate()
    shown.quantize(256, dither=Image.Dither.NONE).save(target, optimize=True)


if __name__ == "__main__":
    photograph(Path(sys.argv[1]))
