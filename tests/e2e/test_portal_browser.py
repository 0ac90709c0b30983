"""The portal in a real browser: from signing up to the invoice, for every eye and hand."""

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from support.accessible import CHECK
from support.browser import browser, browser_programs
from support.portal import DAY, Shop, shop
from support.visitor import PASSWORD

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

WITHIN = 30
PAGES = (
    "/",
    "/products/bookshop",
    "/products/bookshop/plans/free",
    "/products/bookshop/reference",
    "/products/bookshop/try?operation=placeOrder",
    "/keys",
    "/usage",
    "/invoices",
    "/account",
)


@dataclass
class Person:
    """Somebody in front of a browser."""

    driver: Chrome
    url: str
    shots: Path
    width: int = 1280

    def open(self, path: str) -> None:
        self.driver.get(self.url + path)

    def see(self, selector: str):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str = "main") -> str:
        return self.see(selector).text

    def type(self, selector: str, text: str) -> None:
        field = self.see(selector)
        field.clear()
        field.send_keys(text)

    def press(self, label: str, where: str = "main") -> None:
        """Press a button by its words and wait for the page after it."""
        before = self.see("html")
        for button in self.see(where).find_elements(By.CSS_SELECTOR, "button, a.button"):
            if button.text == label:
                button.click()
                break
        else:
            raise AssertionError(f"no button {label!r} in {self.text(where)!r}")
        self.until(lambda: _gone(before))

    def until(self, done: Callable[[], object]) -> None:
        WebDriverWait(self.driver, WITHIN, poll_frequency=0.05).until(lambda _: done())

    def sign_up(self, name: str = "Ada Lovelace", email: str = "ada@example.com") -> None:
        self.open("/sign-up")
        self.type("#title", name)
        self.type("#email", email)
        self.type("#password", PASSWORD)
        self.press("Create account")

    def sign_in(self, email: str = "ada@example.com") -> None:
        self.open("/sign-in")
        self.type("#email", email)
        self.type("#password", PASSWORD)
        self.press("Sign in")

    def is_accessible(self) -> None:
        """Check the page, and that the browser complained of nothing."""
        assert self.driver.execute_script(CHECK) == [], self.driver.current_url
        logged = [line for line in self.driver.get_log("browser") if line["level"] == "SEVERE"]
        assert not logged

    def shoot(self, name: str) -> None:
        """Take a picture of the whole page."""
        height = self.driver.execute_script("return document.documentElement.scrollHeight")
        self._size(min(3000, max(700, height)))
        self.driver.save_screenshot(str(self.shots / f"{name}.png"))
        self._size(900)

    def _size(self, height: int) -> None:
        metrics = {"width": self.width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def _gone(element) -> bool:
    try:
        element.is_enabled()
    except (StaleElementReferenceException, NoSuchElementException):
        return True
    return False


@pytest.fixture(scope="module", autouse=True)
def _programs():
    browser_programs()


@pytest.fixture
def shots(tmp_path):
    """Return where pictures go: a folder of the test, or the one that WHERRY_SHOTS names."""
    folder = Path(os.environ.get("WHERRY_SHOTS", tmp_path / "shots"))
    folder.mkdir(exist_ok=True, parents=True)
    return folder


@pytest.fixture
async def open_shop(tmp_path):
    async with shop(tmp_path) as opened:
        yield opened


async def _driven(
    open_shop: Shop, shots: Path, scenario: Callable[[Person], None], **how: int
) -> None:
    def drive() -> None:
        with browser(**how) as driver:
            scenario(Person(driver, open_shop.url, shots, how.get("width", 1280)))

    await asyncio.to_thread(drive)


async def test_from_signing_up_to_the_invoice(open_shop, shots):
    loop = asyncio.get_running_loop()

    def done(work) -> object:
        return asyncio.run_coroutine_threadsafe(work, loop).result(WITHIN)

    def scenario(ada: Person) -> None:
        consumer = _signs_up_and_subscribes(ada)
        key = _makes_a_key(ada)
        _finds_and_fills_in_a_call(ada, key)
        _sends_it(ada)
        done(open_shop.use(consumer, days=60))
        _looks_at_usage(ada)
        done(open_shop.observe())
        _compares_plans(ada)
        open_shop.clock.away_ns = 40 * DAY
        done(open_shop.close(consumer))
        _reads_the_invoice(ada)

    await _driven(open_shop, shots, scenario)


def _signs_up_and_subscribes(ada: Person) -> str:
    ada.sign_up()
    assert "Your account is ready" in ada.text("[role=status]")
    ada.open("/products/bookshop")
    ada.press("Choose Growth")
    assert "Your plan" in ada.text(".chosen")
    ada.open("/account")
    return ada.see("dl div:nth-child(3) dd").text


def _makes_a_key(ada: Person) -> str:
    ada.open("/keys")
    ada.type("form[aria-label='Make a key'] [name=title]", "laptop")
    ada.press("Make a key", "form[aria-label='Make a key']")
    key = ada.see("#key").get_attribute("value")
    assert key.startswith("wh_")
    ada.see("[data-keep]").click()
    ada.shoot("key")
    return key


def _finds_and_fills_in_a_call(ada: Person, key: str) -> None:
    ada.open("/products/bookshop/reference")
    ada.see("a[aria-label='Try Read one book']").click()
    ada.until(lambda: "Nothing was sent" in ada.text("#verdict"))
    assert ada.see("[data-role=key]").get_attribute("value") == key
    ada.type("[data-role=path]", "7")
    assert "/books/7'" in ada.text("#curl")
    assert key not in ada.text("#curl")


def _sends_it(ada: Person) -> None:
    deadline = time.monotonic() + WITHIN
    while "200 OK" not in ada.text("#verdict"):  # the gateway follows new keys
        assert time.monotonic() < deadline, ada.text("#verdict")
        ada.see("#try [type=submit]").click()
        ada.until(lambda: " in " in ada.text("#verdict"))
    assert "Left Hand of Darkness" in ada.text("#answer-body")
    ada.shoot("try")


def _looks_at_usage(ada: Person) -> None:
    ada.open("/usage")
    assert "of 20,000 requests used" in ada.text()
    assert "Quota 20,000" in ada.see("svg .limit-name").text
    assert len(ada.driver.find_elements(By.CSS_SELECTOR, "svg .bar")) >= 20
    ada.see("figure details summary").click()
    assert ada.see("figure details table").is_displayed()
    ada.shoot("usage")


def _compares_plans(ada: Person) -> None:
    ada.open("/products/bookshop")
    ada.shoot("product")
    ada.see("a[aria-label='Compare costs with Free']").click()
    ada.until(lambda: "Under Free" in ada.text("table"))
    ada.is_accessible()
    ada.shoot("compare")


def _reads_the_invoice(ada: Person) -> None:
    ada.sign_in()
    ada.open("/invoices")
    ada.shoot("invoices")
    ada.see("a[aria-label^='View invoice']").click()
    ada.until(lambda: "Invoice" in ada.driver.title)
    assert "Ada Lovelace" in ada.text("body")
    assert "19.00" in ada.text("body")
    style = "return getComputedStyle(document.querySelector('main')).borderRadius"
    assert ada.driver.execute_script(style) != "0px", "the policy lets the page's own style in"
    ada.shoot("invoice")


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("light", {}),
        ("dark", {"dark": True}),
        ("small", {"width": 360, "height": 740}),
        ("small-dark", {"width": 360, "height": 740, "dark": True}),
    ],
)
async def test_every_page_serves_every_eye_and_hand(open_shop, shots, name, how):
    def scenario(ada: Person) -> None:
        for path in ("/", "/sign-in", "/sign-up", "/products/weather", "/nowhere"):
            ada.open(path)
            if path != "/nowhere":
                ada.is_accessible()
        ada.driver.get_log("browser")
        ada.sign_up()
        ada.is_accessible()
        ada.open("/products/bookshop")
        ada.press("Choose Growth")
        ada.is_accessible()
        ada.open("/keys")
        ada.press("Make a key", "form[aria-label='Make a key']")
        ada.is_accessible()
        for path in PAGES:
            ada.open(path)
            for summary in ada.driver.find_elements(By.CSS_SELECTOR, "summary"):
                if summary.is_displayed():
                    summary.click()
            ada.is_accessible()
            plain = path.strip("/").partition("?")[0].replace("/", "-")
            ada.shoot(f"{name}-{plain or 'home'}")

    await _driven(open_shop, shots, scenario, **how)


async def test_what_is_wrong_with_a_page_is_seen(open_shop, shots):
    """Keeps the check itself honest."""

    def scenario(ada: Person) -> None:
        ada.open("/")
        ada.driver.execute_script(
            """document.querySelector("main").insertAdjacentHTML("beforeend", `
              <p class="pale">pale</p><input><h4>deep</h4><button></button><p id="main"></p>
              <p class="wide">wide</p><form></form><a href="/" tabindex="3">first</a>`);
            document.querySelector(".pale").style.color = "#ccc";
            document.querySelector(".wide").style.width = "200vw";"""
        )
        said = "\n".join(ada.driver.execute_script(CHECK))
        for fault in ("contrast", "field without label", "heading 4 after", "no name", "id main",
                      "wide in", "form without name", "tab order", "inline style"):  # fmt: skip
            assert fault in said

    await _driven(open_shop, shots, scenario)


async def test_the_keyboard_alone_is_enough(open_shop, shots):
    def scenario(ada: Person) -> None:
        ada.open("/sign-up")
        body = ada.see("body")
        body.send_keys(Keys.TAB)
        assert ada.driver.switch_to.active_element.text == "Skip to content"
        ada.driver.switch_to.active_element.send_keys(Keys.ENTER)
        ada.driver.switch_to.active_element.send_keys(Keys.TAB)
        assert ada.driver.switch_to.active_element.get_attribute("id") == "title"
        for text in ("Ada", "ada@example.com", "short"):
            ada.driver.switch_to.active_element.send_keys(text, Keys.TAB)
        ada.driver.execute_script("document.querySelector('form[aria-label]').noValidate = true")
        before = ada.see("html")
        ada.see("#password").send_keys(Keys.ENTER)
        ada.until(lambda: _gone(before))
        ada.until(lambda: ada.driver.switch_to.active_element.get_attribute("id") == "password")
        assert "Use 12 to 256 characters" in ada.text("#password-fault")

    await _driven(open_shop, shots, scenario)


async def test_light_and_dark_can_be_chosen_and_stay(open_shop, shots):
    def scenario(ada: Person) -> None:
        def ground() -> str:
            script = "return getComputedStyle(document.body).backgroundColor"
            return ada.driver.execute_script(script)

        ada.open("/")
        light = ground()
        ada.see("#theme").click()
        assert ada.see("#theme").get_attribute("aria-pressed") == "true"
        dark = ground()
        assert light != dark
        ada.open("/sign-in")
        assert ground() == dark
        ada.see("#theme").click()
        assert ground() == light

    await _driven(open_shop, shots, scenario)


async def test_revoking_asks_first(open_shop, shots):
    def scenario(ada: Person) -> None:
        ada.sign_up()
        ada.open("/keys")
        ada.press("Make a key", "form[aria-label='Make a key']")
        ada.open("/keys")
        revoke = "form[aria-label^='Revoke'] button"
        ada.see(revoke).click()
        ada.driver.switch_to.alert.dismiss()
        assert "wh_" in ada.text(".stack")
        ada.see(revoke).click()
        ada.driver.switch_to.alert.accept()
        ada.until(lambda: "The key is revoked" in ada.text())

    await _driven(open_shop, shots, scenario)
