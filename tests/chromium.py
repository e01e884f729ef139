"""A Chromium or Chrome of this machine, driven by tests.

It is driven through a pipe by its own protocol (https://chromedevtools.github.io/devtools-protocol),
which needs no other package.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PROGRAM = next(filter(None, map(shutil.which, PROGRAMS)), None)
MARKS = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="the pipes are those of POSIX"),
    pytest.mark.skipif(PROGRAM is None, reason="needs Chromium or Chrome on the PATH"),
]
SECONDS = 60.0
DIALOG = "Page.javascriptDialogOpening"
REQUEST = "Network.requestWillBeSent"
OWN = ("data:", "blob:")  # addresses of what a page itself holds
OPTIONS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",  # root has none; the pages are the tests' own
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # requests are seen and go nowhere
    "--window-size=1200,1000",
)
# The protocol is read from file descriptor 3 and written to 4.
START = """
import fcntl, os, sys
read, write = (fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3])
os.dup2(read, 3)
os.dup2(write, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """One tab of a browser, and what happened in it."""

    def __init__(self, folder: Path, script: str = "") -> None:
        """Start it with its profile in `folder`; run `script` in each page before its own."""
        its_input, self.output = os.pipe()
        self.input, its_output = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, str(its_input), str(its_output)]
            + [str(PROGRAM), *OPTIONS, f"--user-data-dir={folder}"],
            pass_fds=(its_input, its_output),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"HOME": str(folder)},
        )
        os.close(its_input)
        os.close(its_output)
        self.rest, self.number = b"", 0
        self.events: list[dict[str, Any]] = []
        self.session: str | None = None
        tab = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=tab, flatten=True)
        self.session = attached["sessionId"]
        for part in ("Page", "Network", "Runtime"):
            self.call(f"{part}.enable")
        self.call("Page.addScriptToEvaluateOnNewDocument", source=script)

    def close(self) -> None:
        self.session = None
        self.call("Browser.close")
        self.process.wait(SECONDS)
        os.close(self.input)
        os.close(self.output)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = self.send(method, **parameters)
        while True:
            answer = self.receive()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return dict(answer["result"])
            self.events.append(answer)
            if answer.get("method") == DIALOG:  # the page waits until it is closed
                self.send("Page.handleJavaScriptDialog", accept=False)

    def seen(self, method: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event.get("method") == method]

    def send(self, method: str, **parameters: Any) -> int:
        self.number += 1
        message: dict[str, Any] = {"id": self.number, "method": method, "params": parameters}
        if self.session is not None:
            message["sessionId"] = self.session
        os.write(self.output, json.dumps(message).encode() + b"\0")
        return self.number

    def receive(self) -> dict[str, Any]:
        """The next message; they end in a zero byte."""
        until = time.monotonic() + SECONDS
        while b"\0" not in self.rest:
            assert select.select([self.input], [], [], until - time.monotonic())[0], "no answer"
            received = os.read(self.input, 1 << 20)
            assert received, "the browser has ended"
            self.rest += received
        message, self.rest = self.rest.split(b"\0", 1)
        return dict(json.loads(message))

    def value(self, script: str) -> Any:
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, script: str) -> None:
        until = time.monotonic() + SECONDS
        while not self.value(script):
            assert time.monotonic() < until, f"never true: {script}"
            time.sleep(0.05)


def requested(browser: Browser) -> list[str]:
    """Every address that was asked for, as the browser and as the page itself saw it."""
    sent = [event["params"]["request"]["url"] for event in browser.seen(REQUEST)]
    return sent + browser.value("performance.getEntriesByType('resource').map((e) => e.name)")
