"""Signals that wait until what they would interrupt is whole."""

import signal
import threading

from ..storage.files import INTERRUPTING


class Held:
    """Inside `with`, SIGINT, SIGTERM and SIGHUP wait: `came` is the one that did, `deliver()` lets it do what it would
    have done. Handlers are those from before afterwards. Does nothing outside the main thread, where Python handles no
    signals, nor for signals that are ignored."""

    def __init__(self, wanted=True):
        self.wanted, self.came, self.before = wanted, None, {}

    def __enter__(self):
        if self.wanted and threading.current_thread() is threading.main_thread():
            for number in INTERRUPTING:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self.before[number] = signal.signal(number, self.hold)
        return self

    def hold(self, number, frame):
        self.came = number

    def deliver(self):
        number, self.came = self.came, None
        if callable(self.before[number]):
            self.before[number](number, None)
        else:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    def __exit__(self, *error):
        for number, handler in self.before.items():
            signal.signal(number, handler)
        if self.came:
            self.deliver()
