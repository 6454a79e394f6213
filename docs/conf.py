"""Sphinx settings of `make site`. Nothing is executed or imported: notebooks keep their outputs, the API is parsed.

Pages come from data/site/source, made anew here: README.md as the home page, the other Markdown files, the executed
notebooks, and one generated page a data set. So a new data set's reports appear without an edit.
"""

import json
import shutil
import sys
from html import escape
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "data" / "site" / "source"
BESIDE = ROOT / "data" / "site" / "beside"  # files that go to the pages as they are
FILES = ["DEVIATIONS.md", "CONTRIBUTING.md", "LICENSE", "CITATION.cff", "params.yaml"]  # pages, and what they link to

sys.path.insert(0, str(ROOT / "docs"))  # docstrings.py, verdicts.py
import verdicts  # noqa: E402

project = "mmrec"
author = "the authors of mmrec"
extensions = ["myst_nb", "autodoc2"]
language = "en"
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb", ".rst": "restructuredtext"}  # .rst: the API pages
nb_execution_mode = "off"
nb_ipywidgets_js = {}  # no widgets, so no scripts from another host
myst_heading_anchors = 3

autodoc2_packages = [{"path": "../../../mmrec"}]
autodoc2_output_dir = "api"
autodoc2_index_template = None
autodoc2_docstring_parser_regexes = [(".*", "docstrings")]
autodoc2_hidden_objects = ["private", "dunder", "inherited"]
autodoc2_class_docstring = "both"  # else each class gets an empty section "Initialization"
autodoc2_sort_names = True  # else modules come in the order of the file system

html_theme = "pydata_sphinx_theme"
html_title = "mmrec"
html_favicon = "_static/favicon.svg"
html_static_path = ["_static"]
html_extra_path = [str(BESIDE)]
html_css_files = ["tables.css", "pages.css"]
html_show_sourcelink = False
html_copy_source = False
html_sidebars = {"index": [], "explorer": [], "verdicts": []}
html_theme_options = {
    # No contents beside notebooks: their tables take the place.
    "secondary_sidebar_items": dict.fromkeys(["*", "docs/**", "api/**"], ["page-toc"])
    | {"explorer": [], "verdicts": []},
    "footer_start": [],
    "footer_end": [],
}


def toctree(*entries: str, options: str = "") -> str:
    return "\n".join(["", "```{toctree}", options, "", *entries, "```", ""])


def data_set_page(folder: Path, title: str) -> str:
    """Notebooks in their order, then every table as a file."""
    notebooks = sorted(path.stem for path in folder.glob("*.ipynb"))
    tables = sorted(path.name for path in folder.glob("tables/*.csv"))
    links = [f"- [{name}](/reports/{folder.name}/tables/{name})" for name in tables]
    body = toctree(*(f"/reports/{folder.name}/{name}" for name in notebooks), options=":maxdepth: 1")
    return f"# {folder.name}\n\n{title[:1].upper()}{title[1:]}.\n{body}\n## Tables\n\n" + "\n".join(links) + "\n"


def describe_figures(path: Path, dataset: str) -> None:
    """Give each figure of a notebook an alternative text: its message, else the heading above it; and the data set."""
    notebook, heading = json.loads(path.read_text(encoding="utf-8")), ""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            titles = [line.strip("# \n") for line in cell["source"] if line.startswith("#")]
            heading = titles[-1] if titles else heading
        else:
            alts = [output.get("metadata", {}).get("image/png", {}).get("alt") for output in cell["outputs"]]
            alt = next(filter(None, alts), heading)
            cell["metadata"]["mystnb"] = {"image": {"alt": f"Figure: {alt} ({dataset})"}}
    path.write_text(json.dumps(notebook), encoding="utf-8")


def write_explorer(data_sets: dict) -> str:
    """The page of the explorer, and its data as scripts: a page opened from disk may load no JSON."""
    options, users = [], 0
    for path in sorted((ROOT / "reports").glob("*/explorer.json")):
        name, text = path.parent.name, path.read_text(encoding="utf-8")
        users = max(users, len(json.loads(text)["users"]))
        options.append(f'<option value="{name}">{name}: {escape(data_sets[name]["title"])}</option>')
        script = BESIDE / "explorer" / f"{name}.js"
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(f'(window.explorerData ??= {{}})["{name}"] = {text.rstrip()};\n', encoding="utf-8")
    page = (ROOT / "docs" / "_pages" / "explorer.md").read_text()
    return page.replace("{users}", str(users)).replace("{datasets}", "".join(options))


def write_sources() -> None:
    """Copy the pages to SOURCE and write the generated ones."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    shutil.rmtree(BESIDE, ignore_errors=True)
    BESIDE.mkdir(parents=True)
    for name in ("docs", "reports", "references"):
        shutil.copytree(
            ROOT / name, SOURCE / name, ignore=shutil.ignore_patterns("_*", "*.py", "*.parquet", "explorer.json")
        )
    for name in FILES:
        shutil.copy(ROOT / name, SOURCE / name)
    data_sets = yaml.safe_load((ROOT / "params.yaml").read_text())["datasets"]
    folders = sorted(folder for folder in (SOURCE / "reports").iterdir() if any(folder.glob("*.ipynb")))
    (SOURCE / "data_sets").mkdir()
    for folder in folders:
        (SOURCE / f"data_sets/{folder.name}.md").write_text(data_set_page(folder, data_sets[folder.name]["title"]))
    for path in (SOURCE / "reports").rglob("*.ipynb"):
        describe_figures(path, path.parent.name if path.parent.name in data_sets else "all data sets")
    (SOURCE / "explorer.md").write_text(write_explorer(data_sets))
    (SOURCE / "verdicts.md").write_text(verdicts.page(ROOT))
    across = sorted(f"/reports/{path.stem}" for path in (SOURCE / "reports").glob("*.ipynb"))
    (SOURCE / "notebooks.md").write_text(
        "# Notebooks\n\nThe executed notebooks, as the pipeline left them.\n"
        + toctree(*across, options=":maxdepth: 1\n:caption: All data sets")
        + toctree(*(f"/data_sets/{folder.name}" for folder in folders), options=":maxdepth: 2\n:caption: By data set")
    )
    (SOURCE / "guide.md").write_text("# Guide\n" + toctree("docs/*", "decisions", options=":maxdepth: 1\n:glob:"))
    (SOURCE / "decisions.md").write_text(
        "# Decisions\n\nWhat was decided, why, and what had been seen before.\n"
        + toctree("docs/decisions/*", options=":maxdepth: 1\n:glob:")
    )
    top = ["guide", "notebooks", "explorer", "verdicts", "Deviations <DEVIATIONS>", "Contributing <CONTRIBUTING>"]
    top += ["API <api/mmrec/mmrec>"]
    (SOURCE / "index.md").write_text((ROOT / "README.md").read_text() + toctree(*top, options=":hidden:"))


write_sources()


def lazy_images(app, page: str, template: str, context: dict, document) -> None:
    """Figures of closed verdicts are loaded when a reader opens them."""
    if page == "verdicts":
        context["body"] = context["body"].replace("<img ", '<img loading="lazy" ')


def setup(app) -> None:
    app.connect("html-page-context", lazy_images)
