# SPDX-License-Identifier: Apache-2.0
"""The page in a real browser. Screenshots stay in build/screenshots, to be looked at."""

import os
import shutil
import time
from pathlib import Path

import pytest
from grids import grid, run
from report_runs import write_run

from iclmsr.report import write_report
from iclmsr.reproduce.summary import summarize
from iclmsr.reproduce.text import as_json

SCREENSHOTS = Path(__file__).parent.parent.parent / "build" / "screenshots"
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
SHIFTS = """
window.shifts = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries())
    if (!entry.hadRecentInput)
      window.shifts.push(entry.sources.map((s) => s.node && (s.node.id || s.node.nodeName)).join());
}).observe({ type: "layout-shift", buffered: true });
"""
INKED = """(id) => {
  const canvas = document.getElementById(id);
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let inked = 0;
  for (let i = 3; i < data.length; i += 4) if (data[i]) inked++;
  return inked;
}"""


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium")
    if chromium is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no chromium on the path: apt-get install chromium")
        pytest.skip("no chromium on the path: apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Two settings with two seeds each, 10,000 images on one map, and the reproduced table."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "table.json").write_text(as_json(summarize(grid(run("simclr", 0, 60.0)))))
    for seed in (0, 1):
        write_run(folder / f"plain-{seed}", seed=seed, gallery=0 if seed else 60)
        write_run(folder / f"msr-{seed}", seed=seed, msr=True, gallery=0 if seed else 10_000)
    write_report([folder], folder / "report.html")
    return folder / "report.html"


@pytest.fixture
def page(browser):
    """An empty page that remembers what goes wrong on it, and fails for it in the end."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    context.set_default_timeout(10_000)
    context.add_init_script(SHIFTS)
    page = context.new_page()
    wrong = []
    page.on("console", lambda message: wrong.append(message.text) if _ours(message.text) else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "request", lambda r: None if r.url.startswith(("file:", "data:")) else wrong.append(r.url)
    )
    yield page
    shifts = page.evaluate("window.shifts")
    context.close()
    assert wrong == []
    assert shifts == []


def _ours(text):
    """Whether the page said it, and not the browser about a test that reads the canvas back."""
    return not text.startswith("Canvas2D: Multiple readback")


def opened(page, report):
    page.goto(report.as_uri())
    page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    return page


def test_ten_thousand_points_in_two_seconds(page, report):
    began = time.monotonic()
    opened(page, report)
    assert page.evaluate(INKED, "map-canvas") > 1000
    assert time.monotonic() - began < 2
    assert "10,000 of 20,000 test images" in page.locator("#map-note").inner_text()


@pytest.mark.parametrize("place", ["", "#map"])
def test_nothing_moves_on_a_slow_machine(page, report, place):
    """The page is painted in parts there, and the ``page`` fixture looks for shifts."""
    slow = page.context.new_cdp_session(page)
    slow.send("Emulation.setCPUThrottlingRate", {"rate": 10})
    page.goto(report.as_uri() + place)
    page.wait_for_timeout(300)
    page.locator("figure.chart svg").first.focus()
    page.keyboard.press("Home")
    page.wait_for_timeout(100)


def test_charts_are_there_and_tell_what_is_under_the_pointer(page, report):
    opened(page, report)
    titles = page.locator("figure.chart figcaption").all_inner_texts()
    expected = {
        "Loss of stage 1", "Contrastive loss", "Spread of the embeddings", "Throughput",
        "Encoder waits for data", "Linear probe", "5-nn", "Change since epoch 1",
    }  # fmt: skip
    assert expected <= set(titles)
    for chart in page.locator("figure.chart svg").all():
        box = chart.bounding_box()
        assert box["width"] > 250
        assert box["height"] > 80
    first = page.locator("figure.chart").first
    box = first.locator("svg").bounding_box()
    page.mouse.move(box["x"] + box["width"] - 14, box["y"] + 60)
    loss = 5 - 0.5 * 1.3862944 + 0.05  # epoch 4, the mean of seeds 0 and 1
    said = first.locator("output").inner_text()
    assert said.startswith("epoch 4: ")
    assert f"simclr + MSR {loss:.4f}"[:-1] in said
    page.mouse.move(box["x"] + 60, box["y"] + 60)
    assert "epoch 1: " in first.locator("output").inner_text()
    page.mouse.move(1, 1)
    assert first.locator("output").inner_text() == ""


def test_a_chart_by_keyboard(page, report):
    opened(page, report)
    first = page.locator("figure.chart").first
    first.locator("svg").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert first.locator("output").inner_text().startswith("epoch 2: ")


def test_hover_shows_the_image_and_its_neighbours(page, report):
    opened(page, report)
    said = page.locator("#map-said")
    assert said.inner_text().startswith("Point at the map")
    page.locator("#map-canvas").scroll_into_view_if_needed()
    box = page.locator("#map-canvas").bounding_box()
    # Class 0 lies in the middle of the right.
    page.mouse.move(
        box["x"] + 0.5 * box["width"] + 0.36 * box["height"], box["y"] + box["height"] / 2
    )
    assert "class 0. Nearest: class 0, class 0" in said.inner_text()
    page.wait_for_function(f"({INKED})('map-thumbnail') > 0")
    colour = page.evaluate(
        "[...document.getElementById('map-thumbnail').getContext('2d')"
        ".getImageData(48, 48, 1, 1).data]"
    )
    assert colour[0] < 30
    assert colour[2] > 220  # class 0 is blue, class 9 would be red
    assert page.evaluate(INKED, "map-near") > 5 * 40 * 40
    page.mouse.move(
        box["x"] + 0.5 * box["width"] - 0.36 * box["height"], box["y"] + box["height"] / 2
    )
    assert "class 5." in said.inner_text()


def test_the_map_by_keyboard(page, report):
    opened(page, report)
    page.locator("#map-canvas").focus()
    said = page.locator("#map-said")
    assert said.inner_text().startswith("Image ")
    page.keyboard.press("Home")
    assert said.inner_text().startswith("Image 1 of 10000: class 0")
    page.keyboard.press("Enter")  # its nearest neighbour
    assert said.inner_text().startswith("Image 11 of 10000: class 0")
    for _ in range(25):
        page.keyboard.press("ArrowLeft")
    assert "class 0." not in said.inner_text().partition("Nearest")[0]
    page.keyboard.press("End")
    assert said.inner_text().startswith("Image 10000 of 10000: class 9")


def test_other_run_projection_and_one_class(page, report):
    opened(page, report)
    page.locator("#map-projection").select_option("UMAP")
    whole = page.evaluate("document.getElementById('map-canvas').toDataURL()")
    button = page.get_by_role("button", name="class 3")
    button.focus()
    page.keyboard.press("Space")
    assert button.get_attribute("aria-pressed") == "true"
    assert page.evaluate("document.getElementById('map-canvas').toDataURL()") != whole
    page.locator("#map-run").select_option(label="simclr")
    assert "60 of 120 test images" in page.locator("#map-note").inner_text()


def test_dark_and_light(page, report):
    opened(page, report)
    paper = "getComputedStyle(document.body).backgroundColor"
    dots = "document.getElementById('map-canvas').toDataURL()"
    light = page.evaluate(dots)
    assert page.evaluate(paper) == "rgb(255, 255, 255)"
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(paper) == "rgb(21, 23, 26)"
    page.wait_for_function(f"{dots} !== {light!r}")


def test_print_unfolds_everything_in_black_on_white(page, report, tmp_path):
    page.emulate_media(color_scheme="dark")
    opened(page, report)
    page.pdf(path=tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").stat().st_size > 20_000
    assert page.locator("details[open]").count() == 0
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()
    assert page.evaluate("window.shifts.splice(0).length") >= 0  # printing may move things


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen(page, report, width):
    page.set_viewport_size({"width": width, "height": 900})
    opened(page, report)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("window.shifts.splice(0)") == []
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"report-{width}.png", full_page=True)
    page.evaluate("window.shifts.length = 0")  # a full-page screenshot resizes the window
