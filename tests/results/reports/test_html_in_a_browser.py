"""The HTML report as a person meets it: a real Chromium, wide and narrow, light and dark, without JavaScript too."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from hostile import hostile
from playwright.sync_api import Browser, Page, sync_playwright

from harness.results.reports.html import render

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("CI"), reason="no Chromium on this machine (apt-get install chromium)"
)
JOBS = "#jobs tbody tr:visible"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(hostile()), encoding="utf-8")
    return path


@pytest.fixture
def page(browser: Browser, file: Path) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: problems.append(request.url) if request.url != file.as_uri() else None)
    page.goto(file.as_uri())
    yield page
    page.close()
    assert problems == []


def test_hostile_text_stays_text(page: Page) -> None:
    assert page.title() == "harness: crashed, 1 passed, 1 failed, 1 skipped, 1 crashed"
    assert page.locator("img").count() == 0
    assert "<script>document.title='broken'</script>" in page.locator("#job-0").inner_text()


def test_what_failed_comes_first_and_leads_to_its_job(page: Page) -> None:
    assert page.locator("h2").first.inner_text() == "What failed"
    page.locator(".failed a").first.click()
    assert page.locator("#job-0 h3", has_text="Findings").is_visible()


def test_jobs_can_be_filtered_by_text_and_status(page: Page) -> None:
    assert page.locator(JOBS).count() == 4
    page.get_by_label("Status").select_option("skipped")
    assert page.locator(JOBS).all_inner_texts()[0].startswith("○ skipped")
    assert page.locator("output").inner_text() == "1 of 4 jobs"
    page.get_by_label("Status").select_option("")
    page.get_by_label("Show").fill("FIN005")
    assert page.locator(JOBS).count() == 1
    assert page.locator(".job:visible").count() == 1


def test_jobs_can_be_sorted_with_the_keyboard_alone(page: Page) -> None:
    button = page.get_by_role("button", name="sweep s")
    button.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    times = [row.split("\t")[-1].strip() for row in page.locator(JOBS).all_inner_texts()]
    assert times == ["2.0", "1.25", "", ""]
    assert page.locator("th[aria-sort=descending]").inner_text().startswith("sweep s")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_no_axe_violation_and_no_wider_than_the_screen(browser: Browser, file: Path, width: int, scheme: str) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(file.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true })")
    found = Axe().run(page)
    page_width = page.evaluate("document.documentElement.scrollWidth")
    jobs = page.evaluate("(box => [box.scrollWidth, box.clientWidth])(document.querySelector('#jobs').parentElement)")
    page.close()
    assert found.violations_count == 0, found.generate_report()
    assert page_width <= width
    assert width > 480 or jobs[0] <= jobs[1]  # a narrow screen shows each job in lines, and hides none of it


def test_without_javascript_everything_can_be_read(browser: Browser, file: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(file.as_uri())
    assert page.locator("#filter").is_hidden()
    assert page.locator(JOBS).count() == 4
    page.locator("#job-1 > summary").click()
    assert page.locator("#job-1 svg[role=img]").first.is_visible()
    page.locator("#job-1 .numbers > summary").click()
    assert "95.00" in page.locator("#job-1 .numbers").inner_text()
    context.close()


def test_a_link_from_outside_opens_its_job(browser: Browser, file: Path) -> None:
    page = browser.new_page()
    page.goto(f"{file.as_uri()}#job-1")
    assert page.locator("#job-1 svg[role=img]").first.is_visible()
    page.close()


def test_the_value_under_the_pointer_is_named(page: Page) -> None:
    page.locator("#job-0 > summary").scroll_into_view_if_needed()
    map_ = page.locator("#job-0 svg[aria-label^='Heat map of recoveries, 2 by 3']")
    map_.scroll_into_view_if_needed()
    box = map_.bounding_box()
    assert box is not None
    seen = json.loads(map_.get_attribute("data-seen") or "")
    scale = box["width"] / 640
    x = box["x"] + (seen["x"] + 1.5 * seen["w"]) * scale
    below = box["y"] + (seen["y"] + 1.5 * seen["h"]) * scale
    page.mouse.move(x, below)
    assert page.locator("#seen").inner_text() == "0, 1/: -2.00 %".replace("1/", seen["columns"][1])
    page.mouse.move(x, below - seen["h"] * scale)
    assert page.locator("#seen").inner_text().endswith("55.00 %")
    page.mouse.move(1, 1)
    assert page.locator("#seen").is_hidden()


def test_a_command_can_be_copied(browser: Browser, file: Path) -> None:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(file.as_uri())
    page.locator(".failed .copy").first.click()
    page.get_by_role("button", name="copied").first.wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.locator(".failed pre code").first.inner_text()
    context.close()


def test_a_code_leads_to_what_it_means(page: Page) -> None:
    page.locator("#jobs a", has_text="FIN004").first.click()
    assert page.locator("#FIN004 h3", has_text="Fix").is_visible()
