"""A real Chromium without a window, and what its logs say."""

import base64
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


class Browser:
    """Opens pages from disk and answers for them."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, path: Path) -> float:
        """Seconds until the page was loaded."""
        self.logs()
        self.driver.get("about:blank")
        began = time.monotonic()
        self.driver.get(path.resolve().as_uri())
        return time.monotonic() - began

    def look(self, width: int, scheme: str = "light") -> None:
        """As a screen of that width, with that preference."""
        wanted = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", wanted)
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def run(self, script: str, *more: Any) -> Any:
        """What a script returns."""
        return self.driver.execute_script(script, *more)

    def wait(self, script: str, seconds: float = 60.0) -> None:
        """Until a script returns something true."""
        until = time.monotonic() + seconds
        while not self.run(script):
            assert time.monotonic() < until, f"never true: {script}"
            time.sleep(0.1)

    def picture(self, path: Path) -> None:
        """What is to be seen, as PNG."""
        path.write_bytes(base64.b64decode(self.driver.execute_cdp_cmd("Page.captureScreenshot", {})["data"]))

    def logs(self) -> tuple[list[str], list[str]]:
        """Since the last call: addresses that were asked for, and what the console says."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [event for event in events if event["method"] == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in sent], [
            entry["message"] for entry in self.driver.get_log("browser")
        ]


@contextmanager
def chromium(javascript: bool = True) -> Iterator[Browser]:
    """A browser for some pages."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for word in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", "mute-audio"):
        options.add_argument(f"--{word}")
    options.add_argument("--autoplay-policy=no-user-gesture-required")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    if not javascript:
        options.add_experimental_option("prefs", {"profile.managed_default_content_settings.javascript": 2})
    # The driver is named, so that none is looked for elsewhere.
    driver = webdriver.Chrome(service=webdriver.ChromeService(DRIVER), options=options)
    try:
        yield Browser(driver)
    finally:
        driver.quit()
