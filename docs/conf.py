"""Sphinx settings of `make site`. Nothing is executed or imported: notebooks keep their outputs, the API is parsed.

Pages come from data/site/source, made anew here: README.md as the home page, the other Markdown files, the executed
notebooks, and one generated page a data set. So a new data set's reports appear without an edit.
"""

import shutil
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "data" / "site" / "source"
FILES = ["DEVIATIONS.md", "CONTRIBUTING.md", "LICENSE", "CITATION.cff", "params.yaml"]  # pages, and what they link to

sys.path.insert(0, str(ROOT / "docs"))  # docstrings.py

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
html_css_files = ["tables.css"]
html_show_sourcelink = False
html_copy_source = False
html_sidebars = {"index": []}
html_theme_options = {
    # No contents beside notebooks: their tables take the place.
    "secondary_sidebar_items": dict.fromkeys(["*", "docs/**", "api/**"], ["page-toc"]),
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


def write_sources() -> None:
    """Copy the pages to SOURCE and write the generated ones."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    for name in ("docs", "reports", "references"):
        shutil.copytree(ROOT / name, SOURCE / name, ignore=shutil.ignore_patterns("_*", "*.py", "*.parquet"))
    for name in FILES:
        shutil.copy(ROOT / name, SOURCE / name)
    data_sets = yaml.safe_load((ROOT / "params.yaml").read_text())["datasets"]
    folders = sorted(folder for folder in (SOURCE / "reports").iterdir() if any(folder.glob("*.ipynb")))
    (SOURCE / "data_sets").mkdir()
    for folder in folders:
        (SOURCE / f"data_sets/{folder.name}.md").write_text(data_set_page(folder, data_sets[folder.name]["title"]))
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
    top = ["guide", "notebooks", "Deviations <DEVIATIONS>", "Contributing <CONTRIBUTING>", "API <api/mmrec/mmrec>"]
    (SOURCE / "index.md").write_text((ROOT / "README.md").read_text() + toctree(*top, options=":hidden:"))


write_sources()
