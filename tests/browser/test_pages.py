"""Explorer and verdicts in a browser: their numbers are those of the tables; addresses, keys, phone; accessibility."""

import csv
import json
import math
import sys
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

ROOT = Path(__file__).parents[2]
AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text(encoding="utf-8")
NOTEBOOK = "reports/demo/06_results.html"
PAGES = ["index.html", NOTEBOOK, "explorer.html?user=18", "verdicts.html", "verdicts.html#attention_helps--demo"]


sys.path.insert(0, str(ROOT / "docs"))
import verdicts  # noqa: E402


@pytest.fixture(scope="module")
def data() -> dict:
    return json.loads((ROOT / "reports" / "demo" / "explorer.json").read_text(encoding="utf-8"))


def table(name: str) -> list[dict[str, str]]:
    with (ROOT / "reports" / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def texts(browser, selector: str) -> list[str]:
    return [one.get_attribute("textContent") for one in browser.find_elements(By.CSS_SELECTOR, selector)]


def shows(browser, user: int, models: str = "popularity,sasrec,maf") -> None:
    """Wait until the explorer has drawn a user of the demo."""
    wanted = f"demo {user} {models}"
    WebDriverWait(browser, 20).until(
        lambda at: at.find_element(By.ID, "one-user").get_attribute("data-shown") == wanted, f"never shows {wanted}"
    )


# --- explorer -------------------------------------------------------------------------------------------------------


def test_the_explorer_shows_the_numbers_of_ten_users(browser, site, data):
    titles = [title or "(no title)" for title, _ in data["items"]]
    for row in data["users"][::20]:
        browser.get(f"{site}/explorer.html?data=demo&user={row['user']}")
        shows(browser, row["user"])
        assert texts(browser, "#history li span") == [titles[item] for item in row["history"]]
        ranks = [[name, *map(str, row["answers"][name]["ranks"])] for name in data["models"]]
        assert [texts(browser, f"#ranks tbody tr:nth-child({at}) > *") for at in (1, 2, 3)] == ranks
        for name, answer in row["answers"].items():
            entries = texts(browser, f"[data-model={name}] li")
            place = answer["ranks"][0] - 1
            marked = [titles[item] + "bought next" * (at == place) for at, item in enumerate(answer["top"])]
            assert entries == marked, (row["user"], name)
        maf = [row["answers"]["maf"]["ranks"][0], *row["without"]["maf"]]
        assert texts(browser, "#without tbody td") == list(map(str, maf))
        numbers = [[*map(float, texts(browser, f"#attention-numbers tbody tr:nth-child({at + 1}) td"))]
                   for at in range(len(row["weights"][0]))]  # fmt: skip
        assert numbers == [list(column) for column in zip(row["weights"][0], *row["scores"][0], strict=True)]
        assert len(browser.find_elements(By.CSS_SELECTOR, "#attention svg [data-mark=cell] rect")) == len(
            numbers
        ) * len(data["streams"])


def test_the_draw_is_like_all_users(data):
    """NDCG@10 of the 200 users lies where that of 200 of the 1,000 test users may lie."""
    for name in data["models"]:
        gains = [1 / math.log2(rank + 1) if rank <= 10 else 0 for rank in ranks_of(data, name)]
        mean = sum(gains) / len(gains)
        error = (sum((gain - mean) ** 2 for gain in gains) / len(gains) ** 2) ** 0.5
        wanted = {"experiment": name, "seed": str(data["seed"]), "split": "test", "protocol": "full_unseen"}
        wanted |= {"metric": "ndcg", "k": "10"}
        (row,) = (row for row in table("demo/tables/results.csv") if wanted.items() <= row.items())
        assert abs(mean - float(row["value"])) < 3 * error, name


def ranks_of(data: dict, name: str) -> list[int]:
    return [row["answers"][name]["ranks"][0] for row in data["users"]]


def test_the_address_holds_the_state_and_the_back_button_brings_it_back(browser, site, data):
    first, second, third = (row["user"] for row in data["users"][:3])
    browser.get(f"{site}/explorer.html")
    shows(browser, first)
    browser.find_element(By.NAME, "next").click()
    shows(browser, second)
    Select(browser.find_element(By.NAME, "user")).select_by_value(str(third))
    shows(browser, third)
    browser.find_element(By.CSS_SELECTOR, "input[value=popularity]").click()
    shows(browser, third, "sasrec,maf")
    assert texts(browser, "#lists h3") == ["sasrec", "maf"]
    deep = browser.current_url
    for user, models in ((third, "popularity,sasrec,maf"), (second, "popularity,sasrec,maf")):
        browser.back()
        shows(browser, user, models)
        assert Select(browser.find_element(By.NAME, "user")).first_selected_option.get_attribute("value") == str(user)
    browser.forward()
    shows(browser, third)
    browser.get("about:blank")
    browser.get(deep)
    shows(browser, third, "sasrec,maf")


def test_an_unknown_user_of_the_address_is_named(browser, site, data):
    browser.get(f"{site}/explorer.html?user=0x&models=none")
    shows(browser, data["users"][0]["user"])
    assert texts(browser, "#told")[0].startswith("User 0x is not among the users drawn. User ")


def test_keys_alone_choose_a_user_and_a_model(browser, site, data):
    browser.get(f"{site}/explorer.html")
    shows(browser, data["users"][0]["user"])
    browser.execute_script("document.querySelector('[name=user]').focus()")
    browser.switch_to.active_element.send_keys(Keys.ARROW_DOWN)
    shows(browser, data["users"][1]["user"])
    assert browser.switch_to.active_element.get_attribute("name") == "user"  # drawing leaves the focus
    for name in ("previous", "next"):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        assert browser.switch_to.active_element.get_attribute("name") == name
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    shows(browser, data["users"][2]["user"])
    browser.switch_to.active_element.send_keys(Keys.TAB)
    browser.switch_to.active_element.send_keys(Keys.SPACE)
    shows(browser, data["users"][2]["user"], "sasrec,maf")


def test_the_explorer_works_from_disk(browser, data):
    browser.get((ROOT / "data" / "site" / "html" / "explorer.html").as_uri())
    shows(browser, data["users"][0]["user"])
    browser.find_element(By.NAME, "next").click()
    shows(browser, data["users"][1]["user"])


def test_charts_have_the_colours_of_the_mode(dark, site, data):
    dark.get(f"{site}/explorer.html")
    shows(dark, data["users"][0]["user"])
    fill = "return getComputedStyle(document.querySelector('#attention svg [data-mark=cell] rect')).fill"
    text = "return getComputedStyle(document.querySelector('#attention svg text')).fill"
    assert min(map(int, dark.execute_script(text)[4:-1].split(","))) > 150
    assert dark.execute_script(fill)


# --- verdicts -------------------------------------------------------------------------------------------------------


def test_every_line_of_claims_is_a_verdict_with_its_evidence(browser, site):
    browser.get(f"{site}/verdicts.html")
    script = """return [...document.querySelectorAll("details.judgement")].map(one => [
        one.closest(".claim").id, one.dataset.dataset, one.dataset.verdict, one.querySelector("pre").textContent,
        one.querySelector("summary").textContent, one.querySelectorAll("tbody tr").length,
        [...one.querySelectorAll("th")].map(of => of.textContent),
        [...one.querySelectorAll("tbody tr:first-child td")].map(of => of.textContent)])"""
    found, lines = browser.execute_script(script), (ROOT / "reports" / "claims.csv").read_text().splitlines()[1:]
    claims = table("claims.csv")
    assert [one[:3] for one in found] == [[row["id"], row["dataset"], row["verdict"]] for row in claims]
    assert [one[3] for one in found] == lines
    compared = 0
    for row, (*_, summary, rows, columns, cells) in zip(claims, found, strict=True):
        assert row["evidence"] in summary and rows >= 1
        of = dict(zip(columns, cells, strict=True))
        if "baseline" in of and "slice" not in of and "auc" not in of:
            assert rows == 1 and row["evidence"].startswith(f"{float(of['difference']):+.4f} ["), row
            assert f" of {of['experiment']} is " in row["rule"] and f" than that of {of['baseline']}:" in row["rule"]
            compared += 1
        if "loss" in of:
            assert rows == 1 and row["evidence"].startswith(f"loss {float(of['loss']):+.4f} ["), row
            compared += 1
    assert compared > 100


def test_the_overview_counts_the_verdicts(browser, site):
    browser.get(f"{site}/verdicts.html")
    script = """return [...document.querySelectorAll(".overview tbody tr")].flatMap(row =>
        [...row.querySelectorAll("td a")].map(one => [row.dataset.claim, one.parentElement.dataset.dataset,
        one.textContent, one.hash]))"""
    shown, expected = browser.execute_script(script), {}
    for row in table("claims.csv"):
        key = row["id"], row["dataset"], row["verdict"]
        expected[key] = expected.get(key, 0) + 1
    total = 0
    for claim, dataset, text, anchor in shown:
        count, verdict = (int(text.split(" ")[0]), text.split(" ", 1)[1]) if text[0].isdigit() else (1, text)
        assert expected[claim, dataset, verdict] == count and anchor == f"#{claim}--{dataset}"
        total += count
    assert total == sum(expected.values())


def test_search_finds_a_claim(browser, site):
    browser.get(f"{site}/search.html?q=cold items")
    found = (By.CSS_SELECTOR, "#search-results a[href^='verdicts.html']")
    WebDriverWait(browser, 20).until(lambda at: at.find_elements(*found))


MAF = {"table": "comparisons", "experiment": "maf", "baseline": "sasrec"}
VALUES = {"table": "comparisons", "experiment": "maf_values", "baseline": "sasrec"}


def test_a_rule_names_one_row_of_evidence():
    assert verdicts.evidence_of("NDCG@10 of maf_values is better than that of sasrec: ...", [MAF, VALUES]) is VALUES
    assert verdicts.evidence_of("NDCG@10 of maf is better than that of sasrec: ...", [MAF, VALUES]) is MAF
    for evidence in ([VALUES], [MAF, MAF]):
        with pytest.raises(ValueError, match="claims.yaml: [02] rows of evidence for .*: run `dvc repro claims`"):
            verdicts.evidence_of("NDCG@10 of maf is better than that of sasrec: ...", evidence)


def test_evidence_is_the_primary_measure_unless_it_says_otherwise():
    rows = [
        {"experiment": "maf", "baseline": "sasrec", "protocol": protocol, "metric": "ndcg", "k": k}
        for protocol in ("full_unseen", "sampled_100")
        for k in ("5", "10")
    ]
    assert verdicts.rows_of(MAF, rows) == [rows[1]]
    assert verdicts.rows_of(MAF | {"protocol": "sampled_100"}, rows) == [rows[3]]


def visible(browser) -> list[list[str]]:
    script = """return [...document.querySelectorAll("details.judgement")].filter(one =>
        !one.closest("[hidden]")).map(one => [one.closest(".claim").id, one.dataset.dataset, one.dataset.verdict])"""
    return browser.execute_script(script)


def test_verdicts_are_filtered_and_the_address_keeps_the_filter(browser, site):
    every = [[row["id"], row["dataset"], row["verdict"]] for row in table("claims.csv")]
    browser.get(f"{site}/verdicts.html")
    assert visible(browser) == every
    Select(browser.find_element(By.NAME, "verdict")).select_by_visible_text("supported")
    Select(browser.find_element(By.NAME, "dataset")).select_by_visible_text("demo")
    expected = [one for one in every if one[1:] == ["demo", "supported"]]
    assert visible(browser) == expected
    assert texts(browser, "#count") == [f"{len(expected)} verdicts."]
    links = [one.text for one in browser.find_elements(By.CSS_SELECTOR, ".overview td a") if one.is_displayed()]
    assert len(links) == len({one[0] for one in expected}) and all(text.endswith("supported") for text in links)
    assert not any("not supported" in text for text in links)
    browser.get(browser.current_url)
    assert visible(browser) == expected
    browser.find_element(By.NAME, "text").send_keys("MISSING poorly")
    assert {one[0] for one in visible(browser)} == {"missing_features_hurt"}
    browser.find_element(By.CSS_SELECTOR, "#filter [type=reset]").click()
    WebDriverWait(browser, 5).until(lambda at: visible(at) == every)
    assert browser.current_url == f"{site}/verdicts.html"


def test_a_link_to_a_verdict_opens_it_with_its_figure(browser, site):
    browser.get("about:blank")
    browser.get(f"{site}/verdicts.html#attention_helps--demo")
    one = browser.find_element(By.ID, "attention_helps--demo")
    WebDriverWait(browser, 5).until(
        lambda _: one.get_attribute("open") and one.find_element(By.TAG_NAME, "pre").is_displayed()
    )
    image = one.find_element(By.TAG_NAME, "img")
    WebDriverWait(browser, 5).until(lambda at: at.execute_script("return arguments[0].naturalWidth", image) > 100)
    closed = browser.find_element(By.ID, "attention_helps--hm").find_element(By.TAG_NAME, "img")
    assert browser.execute_script("return arguments[0].naturalWidth", closed) == 0  # loaded when it is opened


def test_without_scripts_every_verdict_is_there(browser, site):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(f"{site}/verdicts.html")
        assert not browser.find_element(By.ID, "filter").is_displayed()
        assert len(browser.find_elements(By.CSS_SELECTOR, "details.judgement")) == len(table("claims.csv"))
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


# --- all pages ------------------------------------------------------------------------------------------------------


def faults(browser) -> list[str]:
    """What axe-core finds serious or critical."""
    browser.execute_script(AXE)
    found = browser.execute_async_script("axe.run(document, {resultTypes: ['violations']}).then(arguments[0])")
    return [
        f"{one['impact']} {one['id']}: {node['html'][:150]}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_pages_are_accessible(request, browser, site, page, mode):
    if mode == "dark":
        request.getfixturevalue("dark")
    browser.get("about:blank")
    browser.get(f"{site}/{page}")
    if "user=" in page:
        shows(browser, 18)
    assert faults(browser) == []


def test_an_inaccessible_page_is_noticed(browser, serve, tmp_path):
    (tmp_path / "page.html").write_text(
        '<html lang="en"><title>a</title><link rel="icon" href="data:,"><img src="data:,">'
    )
    browser.get(f"{serve(tmp_path)}/page.html")
    assert any("critical image-alt" in fault for fault in faults(browser))


@pytest.mark.parametrize("page", ["explorer.html?user=18", "verdicts.html", "verdicts.html#attention_helps--demo"])
def test_explorer_and_verdicts_fit_a_phone(phone, site, page):
    phone.get("about:blank")
    phone.get(f"{site}/{page}")
    if "user=" in page:
        shows(phone, 18)
    assert phone.execute_script("return document.documentElement.scrollWidth") <= 390
    past = """return [...document.querySelectorAll("article :is(p, li, img, svg, select, input, button, summary)")]
        .filter(one => one.checkVisibility() && !one.closest(".scrolls") && one.getBoundingClientRect().right > 390)
        .map(one => one.outerHTML)"""
    assert phone.execute_script(past) == []


def test_figures_of_notebooks_say_what_they_show(browser, site):
    browser.get(f"{site}/{NOTEBOOK}")
    alts = [image.get_attribute("alt") for image in browser.find_elements(By.CSS_SELECTOR, ".cell_output img")]
    assert alts[0].startswith("Figure: Certain gains: ") and alts[1].startswith("Figure: maf leads: NDCG@10 on test ")
    assert len(alts) == 2 and all(alt.endswith(" (demo)") for alt in alts)
