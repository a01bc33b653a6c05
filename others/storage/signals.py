"""Signals that wait until what they would interrupt is whole."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from .files import INTERRUPTING


class Held:
    """Inside `with`, SIGINT, SIGTERM and SIGHUP wait: `came` is the one that did, `deliver()` lets it do what it would
    have done. Handlers are those from before afterwards. Does nothing outside the main thread, where Python handles no
    signals, nor for signals that are ignored."""

    def __init__(self, wanted: bool = True) -> None:
        self.wanted = wanted
        self.came: int | None = None
        self.before: dict[int, Any] = {}  # handlers

    def __enter__(self) -> Held:
        if self.wanted and threading.current_thread() is threading.main_thread():
            for number in INTERRUPTING:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self.before[number] = signal.signal(number, self.hold)
        return self

    def hold(self, number: int, frame: FrameType | None) -> None:
        self.came = number

    def deliver(self) -> None:
        number, self.came = self.came, None
        assert number is not None, "no signal came"
        if callable(self.before[number]):
            self.before[number](number, None)
        else:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    def __exit__(self, *error: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        if self.came:
            self.deliver()
