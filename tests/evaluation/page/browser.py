# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium, driven through chromedriver by the WebDriver protocol (W3C): no package is needed."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.error import URLError

PROGRAMS = ("chromium", "chromedriver")
MISSING = [program for program in PROGRAMS if shutil.which(program) is None]
OPTIONS = {
    "browserName": "chrome",
    "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
    "goog:chromeOptions": {"args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]},
}
START_SECONDS = 60
ESCAPE = "\ue00c"  # keys, as WebDriver has them
ENTER, END = "\ue007", "\ue010"


class Browser:
    """A session of chromedriver."""

    def __init__(self, address: str):
        self._address = address
        self._session = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": OPTIONS}})["sessionId"]

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self._address + path, data, {"Content-Type": "application/json"}, method=method
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)["value"]

    def do(self, path: str, **body: Any) -> Any:
        """Send a command of the session."""
        return self._ask("POST", f"/session/{self._session}{path}", body)

    def run(self, script: str, *arguments: Any) -> Any:
        """Return what the body of a function in JavaScript returns."""
        return self.do("/execute/sync", script=script, args=arguments)

    def open(self, address: str, width: int) -> None:
        """Load a page in a window so wide."""
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.do("/goog/cdp/execute", cmd="Emulation.setDeviceMetricsOverride", params=metrics)
        self.do("/url", url=address)

    def press(self, *keys: str) -> None:
        """Press keys, one after another, where the focus is."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.do("/actions", actions=[{"type": "key", "id": "keys", "actions": actions}])

    def log(self, kind: str) -> list[dict[str, Any]]:
        """Return the new entries of a log, ``browser`` or ``performance``."""
        return self.do("/se/log", type=kind)

    def close(self) -> None:
        self._ask("DELETE", f"/session/{self._session}")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start chromedriver and a browser, and end both."""
    driver = subprocess.Popen(
        ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        line = next(line for line in driver.stdout if "started successfully on port" in line)
        address = f"http://127.0.0.1:{line.rsplit(' ', 1)[1].strip().rstrip('.')}"
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                browser = Browser(address)
                break
            except URLError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)
        yield browser
        browser.close()
    finally:
        driver.terminate()
        driver.wait(timeout=30)
