"""A browser without a window, for screenshots and tests of the page."""

from __future__ import annotations

import io
import shutil
from typing import Any

from PIL import Image

from utils.errors import UserError, reason
from utils.extras import require

SECONDS = 20  # for the images of a page
SHOWN = "return [...document.images].every(image => image.complete || image.getBoundingClientRect().top > innerHeight)"


def shot(url: str, size: tuple[int, int], night: bool = False) -> bytes:
    """What a browser window of (width, height) pixels shows of an address, WebP. UserError where there is none."""
    require("selenium", "tools.screenshots", "tests/requirements.txt")
    from selenium.common.exceptions import WebDriverException
    from selenium.webdriver.support.ui import WebDriverWait

    try:
        browser = open_browser(size, night)
        try:
            browser.get(url)
            WebDriverWait(browser, SECONDS).until(lambda browser: browser.execute_script(SHOWN))
            return smaller(browser.get_screenshot_as_png())
        finally:
            browser.quit()
    except WebDriverException as error:
        raise UserError(
            f"{url}: no screenshot ({reason(error)}); start tools.serve, and install chromium-driver"
        ) from None


def open_browser(size: tuple[int, int], night: bool = False, logs: bool = False) -> Any:
    """Chromium without a window, its page (width, height) pixels large. logs: keep what it asks and complains of."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    driver = webdriver.ChromeService(shutil.which("chromedriver"))  # None: selenium looks for one, and may download it
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    if logs:
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options, driver)
    resize(browser, size)
    if night:
        dark = [{"name": "prefers-color-scheme", "value": "dark"}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": dark})
    return browser


def resize(browser: Any, size: tuple[int, int]) -> None:
    """Make the page (width, height) pixels large, also smaller than a window can be."""
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def smaller(png: bytes) -> bytes:
    """The same image as WebP, a fifth as large."""
    stream = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(stream, "WEBP", quality=85, method=6)
    return stream.getvalue()
