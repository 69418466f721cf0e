"""The page of tools.serve in a real browser, as people use it: with a mouse, a keyboard, a phone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from engine.gallery.folder import open_gallery
from tests.serving import Quarters, make_gallery, running

for package in ("fastapi", "uvicorn", "python_multipart", "selenium"):
    pytest.importorskip(package)
if not (shutil.which("chromium") and shutil.which("chromedriver")):
    pytest.skip("needs chromium and chromedriver", allow_module_level=True)

from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

from tools.serving.app import build_app  # noqa: E402
from tools.serving.browser import open_browser, resize  # noqa: E402

WIDE, PHONE, NARROW = (1366, 900), (400, 800), (320, 640)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("page") / "people"
    folder.mkdir()
    return make_gallery(folder, names=("a very long name " * 8 + ".png",))


@pytest.fixture(scope="module")
def address(root):
    app = build_app(Quarters(), [open_gallery(root)], limit=100_000)
    with running(app) as found:
        yield found


@pytest.fixture(scope="module")
def session():
    browser = open_browser(WIDE, logs=True)
    yield browser
    browser.quit()


@pytest.fixture
def browser(session, address):
    """The start of the page; afterwards, nothing may have gone wrong, and nobody else may have been asked."""
    session.get(address)
    yield session
    assert [entry for entry in session.get_log("browser") if entry["level"] == "SEVERE"] == []
    messages = [json.loads(entry["message"])["message"] for entry in session.get_log("performance")]
    asked = [each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"]
    foreign = [url for url in asked if not url.startswith((address, "data:", "blob:" + address))]
    assert asked and foreign == []


def all_of(browser, selector: str):
    return browser.find_elements(By.CSS_SELECTOR, selector)


def one(browser, selector: str):
    (found,) = all_of(browser, selector)
    return found


def wait(browser, condition):
    return WebDriverWait(browser, 20).until(lambda browser: condition())


def state(browser) -> dict[str, list[str]]:
    """The parameters of the address."""
    return parse_qs(urlsplit(browser.current_url).query)


def arrive(browser, action) -> None:
    """Do something that leads to another page, and wait until that is there."""
    before = one(browser, "html")
    action()
    wait(browser, lambda: all_of(browser, "html") not in ([before], []))  # none while the page is exchanged
    wait(browser, lambda: browser.execute_script("return document.readyState") == "complete")


def signs(browser) -> list[str]:
    return [each.text for each in all_of(browser, ".tile .sign")]


def test_an_infrared_image_finds_its_person_and_leads_on(browser):
    arrive(browser, all_of(browser, ".tile a")[0].click)
    assert one(browser, "h1").text == "Nearest visible images" and state(browser)["query_row"] == ["4"]
    assert signs(browser)[:4] == ["✓"] * 4 and set(signs(browser)[4:]) == {"✗"}
    shown = "return [...document.querySelectorAll('.tile img')].filter(image => image.complete && image.naturalWidth).length"
    wait(browser, lambda: browser.execute_script(shown) >= 5)
    arrive(browser, all_of(browser, ".tile a")[1].click)
    assert one(browser, "h1").text == "Nearest infrared images" and signs(browser)[:2] == ["✓"] * 2
    arrive(browser, browser.back)
    assert one(browser, "h1").text == "Nearest visible images" and state(browser)["query_row"] == ["4"]


def test_an_upload_is_searched_and_its_filters_work(browser, root):
    assert not one(browser, "#preview").is_displayed()
    one(browser, "#image").send_keys(str(root / "images" / "cam3" / "0003" / "0.png"))
    wait(browser, one(browser, "#preview").is_displayed)
    assert "0.png is chosen" in one(browser, "#say").text
    arrive(browser, one(browser, ".upload button").click)
    assert state(browser).keys() == {"upload"} and signs(browser) == []
    first = "document.querySelector('.tile .facts').innerText"
    assert "Identity 3" in browser.execute_script("return " + first)
    one(browser, "input[name=camera][value='2']").click()
    Select(one(browser, "select[name=top]")).select_by_visible_text("10")
    one(browser, "input[name=rerank]").click()
    arrive(browser, one(browser, ".filters button").click)
    assert {"upload", "camera", "top", "rerank"} < state(browser).keys()
    assert len(all_of(browser, ".lists > section")) == 2 and len(all_of(browser, ".tile")) == 20
    assert {each.text for each in all_of(browser, ".tile .fact:last-child")} == {"Camera 2"}
    one(browser, "input[name=threshold]").send_keys("0.05")
    arrive(browser, one(browser, ".filters button").click)
    assert len(all_of(browser, ".tile")) == 2 * 2  # in both lists
    arrive(browser, browser.back)
    assert len(all_of(browser, ".tile")) == 20


def test_what_cannot_be_searched_is_said_on_the_page(browser, tmp_path):
    large, text = tmp_path / "large.png", tmp_path / "text.jpg"
    large.write_bytes(bytes(100_001))
    text.write_text("no image")
    one(browser, "#image").send_keys(str(large))
    wait(browser, lambda: "large.png has more than" in one(browser, "#say").text)
    assert one(browser, "#image").get_property("value") == ""
    one(browser, "#image").send_keys(str(text))
    arrive(browser, one(browser, ".upload button").click)
    assert "text.jpg: not a readable image" in one(browser, "[role=alert]").text
    errors = browser.get_log("browser")  # a browser notes the status of an answer
    assert len(errors) == 1 and "422" in errors[0]["message"]
    arrive(browser, browser.back)
    assert one(browser, "h1").text == "Who is this?"


def test_the_keyboard_alone_is_enough(browser):
    def active(script: str) -> str:
        return browser.execute_script(f"return document.activeElement.{script}")

    def press(*keys) -> None:
        ActionChains(browser).send_keys(*keys).perform()

    press(Keys.TAB)
    assert active("innerText") == "Skip to the content"
    outline = "return getComputedStyle(document.activeElement).outlineStyle"
    assert browser.execute_script(outline) == "solid"
    names = []
    for _ in range(6):
        press(Keys.TAB)
        names.append(active("innerText.trim()") or active("name"))
    assert names == ["Person search", "Search", "Model", "API", "image", "query_modality"]
    press(Keys.ARROW_RIGHT)
    assert active("value") == "visible"
    browser.execute_script("document.querySelector('.pager a, .bar button').focus()")
    press(Keys.TAB)
    arrive(browser, lambda: press(Keys.ENTER))
    assert state(browser)["query_row"] == ["4"]
    press(Keys.TAB)
    press(Keys.ENTER)  # skips to the content
    assert active("id") == "main"


def test_a_reader_of_the_screen_hears_everything(browser):
    """Landmarks, one heading of the first rank, a name for each control, a text for each image."""
    result = browser.current_url + "search?query_row=4&rerank=1"
    for url in (browser.current_url, result, browser.current_url + "model", browser.current_url + "api"):
        browser.get(url)
        assert len(all_of(browser, "h1")) == len(all_of(browser, "main")) == len(all_of(browser, "header.top nav")) == 1
        assert one(browser, "html").get_attribute("lang") == "en"
        assert all(each.get_attribute("alt") is not None for each in all_of(browser, "img"))
        for control in all_of(browser, "input:not([type=hidden]), select, button, .tile a, summary"):
            assert control.accessible_name.strip(), control.get_attribute("outerHTML")
    browser.get(result)
    heard = all_of(browser, ".tile a")[0].accessible_name
    for part in ("Rank", "1", "Same identity", "Distance", "Identity", "Camera"):
        assert part in heard


BESIDE = """
const box = (node) => node.getBoundingClientRect();
const starts = [...document.querySelectorAll(".lists ol")].map((list) => box(list).top);
const over = [...document.querySelectorAll(".before")].filter((said) => {
  const rank = box(said.parentNode.querySelector(".rank"));
  return box(said).left < rank.right && box(said).top < rank.bottom;
});
return [starts.length, new Set(starts).size, over.length];
"""


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["laptop", "narrow"])
def test_both_lists_begin_at_one_height_and_nothing_covers_a_rank(browser, address, size):
    resize(browser, size)
    try:
        browser.get(address + "search?query_row=5&rerank=1&top=50")
        assert all_of(browser, ".before") and browser.execute_script(BESIDE) == [2, 1, 0]
    finally:
        resize(browser, WIDE)


@pytest.mark.parametrize("size", [WIDE, PHONE, NARROW], ids=["laptop", "phone", "narrow"])
def test_no_page_is_wider_than_the_screen(browser, address, size):
    resize(browser, size)
    try:
        for path in ("", "model", "api", "search?query_row=4&rerank=1", "search?query_row=36", "search?query_row=999"):
            browser.get(address + path)
            wide = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
            assert wide == [size[0]] * 2, path
        filters = browser.get(address + "search?query_row=4") or one(browser, ".filters")
        assert (filters.get_attribute("open") is not None) == (size == WIDE)  # on a phone, the images come first
    finally:
        resize(browser, WIDE)
        browser.get_log("browser")  # the row that there is not


def test_colours_can_be_read_by_day_and_by_night(browser, address):
    """A contrast of 4.5 to 1 between each text and what lies behind it (WCAG AA)."""
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        for path in ("", "search?query_row=4"):
            browser.get(address + path)
            assert browser.execute_script(FAINT) == [], (scheme, path)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


FAINT = """
const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
const bright = (colour) => {
  const [r, g, b] = parts(colour).map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (node) => {
  for (; node; node = node.parentElement) {
    const colour = getComputedStyle(node).backgroundColor;
    if ((parts(colour)[3] ?? 1) > 0.5) return colour;
  }
  return "rgb(255, 255, 255)";
};
return [...document.querySelectorAll("main *, header *")].filter((node) => {
  const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
  if (!own || !node.checkVisibility() || node.closest(".hidden, option")) return false;
  const [a, b] = [bright(getComputedStyle(node).color), bright(behind(node))].sort((x, y) => y - x);
  return (a + 0.05) / (b + 0.05) < 4.5;
}).map((node) => node.outerHTML.slice(0, 80));
"""
