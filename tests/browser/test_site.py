"""The built site in a browser: nothing fails to load, nothing asks another host, search, dark mode, phone."""

import json
import re
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

PAGES = Path(__file__).parents[2] / "data" / "site" / "html"
KNOWN = "Got invalid theme mode"  # the theme's own, at a first visit
NOTEBOOKS = sorted(path.relative_to(PAGES).as_posix() for path in PAGES.glob("reports/**/*.html"))


def problems(browser, address: str, home: str) -> list[str]:
    """Warnings and errors of the console, failed requests, and requests to other hosts of one page."""
    browser.get_log("browser"), browser.get_log("performance")  # those of the page before
    browser.get(address)
    console = [entry for entry in browser.get_log("browser") if entry["level"] in ("WARNING", "SEVERE")]
    found = [entry["message"] for entry in console if KNOWN not in entry["message"]]
    for entry in browser.get_log("performance"):
        event = json.loads(entry["message"])["message"]
        about = event["params"]
        if event["method"] == "Network.requestWillBeSent":
            asked = about["request"]["url"]
            if not asked.startswith((home, "data:", "blob:")):
                found.append(f"asks {asked}")
        elif event["method"] == "Network.responseReceived" and about["response"]["status"] >= 400:
            found.append(f"{about['response']['status']} {about['response']['url']}")
        elif event["method"] == "Network.loadingFailed" and not about.get("canceled"):
            found.append(about["errorText"])
    return found


def test_every_page_loads_from_here_alone(browser, site):
    pages = [path.relative_to(PAGES).as_posix() for path in PAGES.rglob("*.html")]
    pages = sorted(page for page in pages if not page.startswith("_static/"))  # a template of the theme
    assert len(pages) > 50
    wrong = {page: found for page in pages if (found := problems(browser, f"{site}/{page}", site))}
    assert not wrong


@pytest.mark.parametrize(
    ("body", "sign"),
    [
        ('<img src="https://example.invalid/a.png">', "asks https://example.invalid"),
        ('<img src="/missing.png">', "404"),
        ("<script>nothing()</script>", "nothing is not defined"),
    ],
)
def test_a_faulty_page_is_noticed(browser, serve, tmp_path, body, sign):
    (tmp_path / "page.html").write_text(f'<link rel="icon" href="data:,">{body}')
    home = serve(tmp_path)
    assert any(sign in problem for problem in problems(browser, f"{home}/page.html", home))


def test_every_executed_notebook_has_a_page_in_the_contents(browser, site):
    reports = PAGES.parents[2] / "reports"
    expected = {path.relative_to(reports.parent).with_suffix(".html").as_posix() for path in reports.rglob("*.ipynb")}
    assert set(NOTEBOOKS) == expected
    browser.get(f"{site}/notebooks.html")
    links = [link.get_attribute("href") for link in browser.find_elements(By.CSS_SELECTOR, "article a")]
    assert expected <= {link.removeprefix(f"{site}/") for link in links if link}


@pytest.mark.parametrize(
    ("words", "page"),
    [
        ("sampled softmax", "DEVIATIONS.html"),
        ("krichene rendle", "reports/demo/06_results.html"),
        ("EvaluationError", "api/mmrec/mmrec.evaluation.html"),
    ],
)
def test_search_finds_text_of_docs_notebooks_and_api(browser, site, words, page):
    browser.get(f"{site}/search.html?q={words}")
    links = (By.CSS_SELECTOR, f"#search-results a[href^='{page}']")
    WebDriverWait(browser, 20).until(lambda at: at.find_elements(*links))


def test_search_finds_nothing_where_there_is_nothing(browser, site):
    browser.get(f"{site}/search.html?q=zzyzxquux")
    WebDriverWait(browser, 20).until(lambda at: "did not match any" in at.find_element(By.ID, "search-results").text)


def test_arguments_of_a_docstring_are_a_list(browser, site):
    browser.get(f"{site}/api/mmrec/mmrec.evaluation.html")
    path = "//dt[@id='mmrec.evaluation.target_ranks']/following-sibling::dd//p[.='Args']/following-sibling::ul[1]/li"
    names = [item.find_element(By.TAG_NAME, "code").text for item in browser.find_elements(By.XPATH, path)]
    assert names == ["scores", "seen"]  # of the two lines that begin with a name


def brightness(browser, element: str, style: str) -> float:
    """Of a colour of the element, 0 to 255."""
    script = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
    red, green, blue = map(float, re.findall(r"[\d.]+", browser.execute_script(script, element, style))[:3])
    return 0.3 * red + 0.59 * green + 0.11 * blue


@pytest.mark.parametrize("page", ["index.html", "reports/demo/06_results.html"])
def test_dark_mode_follows_the_system(dark, site, page):
    dark.get(f"{site}/{page}")
    assert brightness(dark, "body", "backgroundColor") < 60
    for element in ("article p", "article td", "article pre"):
        assert brightness(dark, element, "color") > 180


@pytest.mark.parametrize(
    "page", ["index.html", "DEVIATIONS.html", "reports/demo/06_results.html", "api/mmrec/mmrec.training.html"]
)
def test_a_page_is_as_wide_as_a_phone(phone, site, page):
    phone.get(f"{site}/{page}")
    assert phone.execute_script("return document.documentElement.scrollWidth") <= 390
    past = """return [...document.querySelectorAll("article :is(h1, h2, p, li, img)")].filter(element =>
        !element.closest("table, .cell_output") && element.getBoundingClientRect().right > 390).map(e => e.outerHTML)"""
    assert phone.execute_script(past) == []


def test_a_wide_table_of_a_notebook_scrolls(phone, site):
    phone.get(f"{site}/reports/demo/06_results.html")
    hidden = """return [...document.querySelectorAll(".output.text_html")].filter(e => e.scrollWidth > e.clientWidth)
        .map(e => getComputedStyle(e).overflowX)"""
    assert set(phone.execute_script(hidden)) == {"auto"}
