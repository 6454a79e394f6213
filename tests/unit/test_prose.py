"""Markdown pages: short sentences and cells, links that resolve, results that are generated."""

import re
from pathlib import Path

import pytest

from mmrec.report import generated

ROOT = Path(__file__).parents[2]
DECISIONS = sorted(ROOT.glob("docs/decisions/*.md"))
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/[!_]*.md"), *DECISIONS])
HISTORY = {*DECISIONS, ROOT / "docs" / "results.md"}  # tests/integration/test_reports.py holds results.md to the tables
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
RESULT = re.compile(r"(?<!\d)\d?\.\d{4}\b")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def sentences(text: str) -> list[str]:
    """Of paragraphs and items of lists, without code, generated blocks, tables and addresses of links."""
    text = LINK.sub("]", FENCED.sub("", generated.BLOCK.sub("", text)))
    prose = re.sub(r"^ *(\||#).*$", "", text, flags=re.MULTILINE)
    blocks = re.split(r"\n\s*\n|\n *(?:-|\d+\.) ", "\n" + prose)
    return [one for block in blocks for one in re.split(r"[.?!][*)]*\s| · ", " ".join(block.split()))]


def rows(text: str) -> list[list[str]]:
    """Cells of a page's tables."""
    return [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]


def slugs(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub names them."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "DEVIATIONS.md", *DECISIONS], ids=name)
def test_sentences_have_at_most_25_words(page):
    assert [one for one in sentences(page.read_text()) if len(one.split()) > 25] == []


def test_deviations_are_one_table_with_short_cells():
    text = (ROOT / "DEVIATIONS.md").read_text()
    assert len(re.findall(r"^\|[-|]+\|$", text, re.MULTILINE)) == 1
    table = rows(LINK.sub("]", text))
    assert {len(cells) for cells in table[2:]} <= {3, 4}  # the last cell may be empty
    assert [cell for cells in table for cell in cells if len(cell.split()) > 25] == []


def test_readme_fits_in_130_lines():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_resolve(page):
    for link in LINK.findall(FENCED.sub("", page.read_text())):
        if not re.match(r"\w+:", link):
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            assert target.exists(), link
            assert not anchor or anchor in slugs(target), link


@pytest.mark.parametrize("page", [page for page in PAGES if page not in HISTORY], ids=name)
def test_results_stand_in_generated_blocks(page):
    assert RESULT.findall(generated.BLOCK.sub("", page.read_text())) == []


@pytest.mark.parametrize("page", DECISIONS, ids=name)
def test_a_decision_is_dated_and_names_the_source_of_its_results(page):
    text = page.read_text()
    assert text.startswith(f"# {page.name[:10]}: ")
    assert not RESULT.search(text) or re.search(r"commit [0-9a-f]{7}\b|`reports/|outside the pipeline", text)


@pytest.mark.parametrize("page", DECISIONS, ids=name)
def test_a_decision_is_linked_from_deviations(page):
    assert f"({name(page)})" in (ROOT / "DEVIATIONS.md").read_text()
