"""The page of verdicts: claims x data sets; for each verdict its rule, rows of the table that it rests on, its figure.

Everything is in the page: without scripts it is a long table. _static/verdicts.js filters it.
"""

import csv
import re
from collections import Counter
from html import escape
from itertools import groupby
from pathlib import Path

import yaml

ROWS = 12  # of a table that one verdict shows
FIXED = {"protocol": "full_unseen", "metric": "ndcg", "k": "10"}  # of comparisons, unless the evidence says otherwise
SHOWN = {  # table -> notebook and figure of a data set that show it
    "comparisons": ("06_results", "06_comparisons"),
    "baselines": ("07_published", "07_baselines"),
    "attention_compared": ("05_probes", "05_attended"),
    "stream_shares": ("05_probes", "05_stream_shares"),
    "robustness": ("05_probes", "05_robustness"),
    "slices": ("05_probes", "05_slices"),
    "cold": ("05_probes", ""),
    "gradient_agreement": ("05b_training_probes", "05b_gradient_agreement"),
    "modality_dropout": ("05b_training_probes", "05b_modality_dropout"),
}
VERDICTS = {
    "supported": "the interval lies on the claimed side of 0",
    "not supported": "an effect worth having is excluded",
    "inconclusive": "neither of the two",
    "underpowered": "neither, and the comparison is too small to tell 10 %",
}
Row = dict[str, str]


def page(root: Path) -> str:
    """Markdown of the page, from reports/claims.csv, references/claims.yaml and the tables of reports/.

    Raises:
        ValueError: a rule of claims.csv belongs to no evidence of claims.yaml or to several, or a table lacks its rows.
    """
    claims = yaml.safe_load((root / "references" / "claims.yaml").read_text())
    judged = _read(root / "reports" / "claims.csv")
    datasets = list(dict.fromkeys(row["dataset"] for row in judged))
    by_claim = {name: list(rows) for name, rows in groupby(judged, key=lambda row: row["id"])}
    parts = [_head(judged, datasets), _overview(by_claim, datasets), "", "## Claims", ""]
    for name, rows in by_claim.items():
        parts += [_claim(name, rows, claims[name]["evidence"], root), ""]
    return "\n".join(parts) + '\n<script defer src="_static/verdicts.js"></script>\n'


def _read(path: Path) -> list[Row]:
    """Rows of a CSV file, with the `line` of each (the header is line 1) and its text."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [
        row | {"line": str(number), "raw": lines[number - 1]} for number, row in enumerate(csv.DictReader(lines), 2)
    ]


def evidence_of(rule: str, evidence: list[dict]) -> dict:
    """The one row of a claim's evidence whose words are all in the rule."""
    found = [one for one in evidence if all(re.search(rf"(?<!\w){re.escape(of)}(?!\w)", rule) for of in _words(one))]
    if len(found) != 1:
        raise ValueError(f"claims.yaml: {len(found)} rows of evidence for the rule {rule!r}: run `dvc repro claims`")
    return found[0]


def _words(one: dict) -> list[str]:
    return [value for key, value in one.items() if key != "table" and isinstance(value, str)]


def rows_of(one: dict, table: list[Row]) -> list[Row]:
    """The rows of a table that one row of evidence names; all of a table that it sums up."""
    wanted = {key: value for key, value in one.items() if key not in ("table", "claimed") and value != "lowest"}
    if one["table"] in ("comparisons", "baselines"):
        wanted = FIXED | wanted
    if one["table"] == "modality_dropout":
        wanted["kind"] = "missing"
    if one["table"] == "gradient_agreement":
        wanted = {"tasks": f"id, {one['modality']}"}
    return [row for row in table if all(_equal(row[key], of) for key, of in wanted.items() if key in row)]


def _equal(found: str, wanted: str | float) -> bool:
    return found == wanted if isinstance(wanted, str) else float(found) == wanted


def _head(judged: list[Row], datasets: list[str]) -> str:
    meanings = "\n".join(f"<li>{_badge(name)} {meaning}</li>" for name, meaning in VERDICTS.items())
    verdicts, names = ("".join(f"<option>{name}</option>" for name in of) for of in (VERDICTS, datasets))
    return f"""# Verdicts

Each claim has rules that were fixed beforehand. Each rule is judged on every data set with its table. Open a verdict
for the rule, the rows it rests on, the figure and its line in [claims.csv](/reports/claims.csv).

<ul class="meanings">
{meanings}
</ul>
<form id="filter" hidden>
<label>Verdict <select name="verdict"><option value="">all</option>{verdicts}</select></label>
<label>Data set <select name="dataset"><option value="">all</option>{names}</select></label>
<label>Text <input type="search" name="text" placeholder="fusion, cold items"></label>
<button type="reset">Show all</button>
</form>
<p id="count" role="status">{len(judged)} verdicts.</p>
"""


def _overview(by_claim: dict[str, list[Row]], datasets: list[str]) -> str:
    titles = {name: name.replace("_", "_<wbr>") for name in datasets}
    head = "".join(f'<th scope="col" data-dataset="{name}">{title}</th>' for name, title in titles.items())
    lines = [
        '<div class="scrolls" tabindex="0" role="region" aria-label="Verdicts by claim and data set">',
        f'<table class="overview"><thead><tr><th scope="col">Claim</th>{head}</tr></thead><tbody>',
    ]
    for name, rows in by_claim.items():
        cells = []
        for dataset in datasets:
            counts = Counter(row["verdict"] for row in rows if row["dataset"] == dataset)
            several = sum(counts.values()) > 1
            links = " ".join(
                f'<a href="#{name}--{dataset}">{_badge(verdict, f"{counts[verdict]} " * several)}</a>'
                for verdict in VERDICTS
                if counts[verdict]
            )
            cells.append(f'<td data-dataset="{dataset}">{links}</td>')
        statement = escape(rows[0]["statement"])
        lines.append(
            f'<tr data-claim="{name}"><th scope="row"><a href="#{name}">{statement}</a></th>{"".join(cells)}</tr>'
        )
    return "\n".join([*lines, "</tbody></table>", "</div>"])


def _badge(verdict: str, before: str = "") -> str:
    return f'<span class="verdict {verdict.replace(" ", "-")}">{before}{verdict}</span>'


def _claim(name: str, rows: list[Row], evidence: list[dict], root: Path) -> str:
    parts = [
        f'<details class="claim" id="{name}">',
        f"<summary>{escape(rows[0]['statement'])}</summary>",
        f"<p>Source: {escape(rows[0]['source'])}.</p>",
    ]
    seen = set()
    for rule, judgements in groupby(rows, key=lambda row: row["rule"]):
        one = evidence_of(rule, evidence)
        parts.append(f'<div class="rule"><p>Rule: {escape(rule)}.</p>')
        for row in judgements:
            anchor = f' id="{name}--{row["dataset"]}"' * (row["dataset"] not in seen)
            seen.add(row["dataset"])
            parts += [_judgement(row, anchor, one, root)]
        parts.append("</div>")
    return "\n".join([*parts, "</details>"])


def _judgement(row: Row, anchor: str, one: dict, root: Path) -> str:
    dataset, name = row["dataset"], one["table"]
    notebook, figure = SHOWN[name]
    folder = f"/reports/{dataset}"
    rows = rows_of(one, _read(root / f"{folder[1:]}/tables/{name}.csv"))
    if not rows:
        raise ValueError(f"{folder[1:]}/tables/{name}.csv lacks the rows of a verdict: run `dvc repro claims`")
    numbers = ", ".join(of["line"] for of in rows[:ROWS]) + ", ..." * (len(rows) > ROWS)
    lines = f"Line{'s' * (len(rows) > 1)} {numbers} of [{name}.csv]({folder}/tables/{name}.csv)"
    picture = f"{folder}/figures/{figure}.png"
    shown = figure and (root / picture[1:]).exists()
    return "\n".join(
        [
            f'<details class="judgement"{anchor} data-dataset="{dataset}" data-verdict="{row["verdict"]}">',
            f"<summary><b>{dataset}</b> {_badge(row['verdict'])} {escape(row['evidence'])}</summary>",
            _table(rows[:ROWS]),
            f"\n{lines}; [notebook]({folder}/{notebook}.ipynb).\n",
            f"![Figure: {name.replace('_', ' ')} ({dataset})]({picture})\n" if shown else "",
            f'<p>Line {row["line"]} of claims.csv:</p><pre class="line" tabindex="0">{escape(row["raw"])}</pre>',
            "</details>",
        ]
    )


def _table(rows: list[Row]) -> str:
    columns = [name for name in rows[0] if name not in ("line", "raw")]
    head = "".join(f'<th scope="col">{name}</th>' for name in columns)
    body = "".join("<tr>" + "".join(f"<td>{_rounded(row[name])}</td>" for name in columns) + "</tr>" for row in rows)
    scrolls = '<div class="scrolls" tabindex="0" role="region" aria-label="Rows of evidence">'
    return f"{scrolls}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _rounded(cell: str) -> str:
    return f"{float(cell):.4f}" if re.fullmatch(r"-?\d+\.\d{5,}(e-\d+)?", cell) else escape(cell)
