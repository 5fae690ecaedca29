"""Somebody at a real browser: Debian's Chromium."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM, CHROMEDRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--disable-sync", "--lang=en",
)  # fmt: skip
DESK, PHONE = (1280, 900), (360, 740)
WAIT_S = 20

needs_browser = pytest.mark.skipif(
    not (CHROMIUM and CHROMEDRIVER),
    reason="Chromium is not installed: the console's browser tests need chromium and chromedriver",
)


class Reader:
    """Somebody at a browser. What the browser logs is read at the end: nothing may have gone wrong."""

    def __init__(self, browser: webdriver.Chrome, url: str) -> None:
        self.browser = browser
        self._url = url

    def open(self, path: str) -> None:
        self.browser.get(self._url + path)

    def sign_in(self, key: str) -> None:
        self.open("/console")
        self.write("#key", key)
        self.click("form.stack button")

    def click(self, selector: str) -> None:
        """The first one, once it is there."""

        def clicked() -> bool:
            found = self.all(selector)
            if found:
                found[0].click()
            return bool(found)

        self.until(clicked)

    def write(self, selector: str, text: str) -> None:
        self.until(lambda: self.all(selector))[0].send_keys(text)

    def all(self, selector: str) -> list:
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    @property
    def text(self) -> str:
        return self.run("return document.body?.innerText ?? ''")

    def until(self, condition: Callable[[], Any]) -> Any:
        # What was found may belong to the page before.
        wait = WebDriverWait(self.browser, WAIT_S, ignored_exceptions=[StaleElementReferenceException])
        return wait.until(lambda _: condition())

    def sees(self, *texts: str) -> None:
        """Waits for each text."""
        for text in texts:
            self.until(lambda text=text: text in self.text)

    def run(self, script: str) -> Any:
        return self.browser.execute_script(script)

    def overflow(self) -> list[str]:
        """What is wider than the window, scrolled sideways or cut off."""
        return self.run("""
            const wide = [...document.querySelectorAll("body *")].filter((each) => {
              const box = each.getBoundingClientRect();
              return box.width && !each.closest(".hidden, .skip") && (box.right > innerWidth + 1 || box.left < -1);
            });
            if (document.documentElement.scrollWidth > innerWidth) wide.push(document.documentElement);
            return wide.map((each) => `${each.tagName}.${each.getAttribute("class")}: ${each.textContent.slice(0, 40)}`);
        """)

    def troubles(self) -> list[str]:
        """What the browser complained about: scripts, the page's policy, files that were not there."""
        return [line["message"] for line in self.browser.get_log("browser") if line["level"] in ("SEVERE", "WARNING")]


def open_browser(size: tuple[int, int], folder: Path) -> webdriver.Chrome:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={folder}", f"--window-size={size[0]},{size[1]}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(CHROMEDRIVER))
    # A window is never narrower than 500 pixels; a phone is.
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size is PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    return browser
