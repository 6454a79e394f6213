"""Text with numbers in README.md and docs/, written from the committed tables between markers.

A block stands between `<!-- NAME: generated -->` and `<!-- end -->`.
"""

import re
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from mmrec.analysis import claims, controls
from mmrec.analysis.evidence import TOLD, Verdict
from mmrec.config import Config, ConfigError, Paths
from mmrec.data import provenance
from mmrec.experiments import archive
from mmrec.files import atomic
from mmrec.report import tables

CHANNELS = {  # experiment -> the channels of features, in the order of the story
    "maf": "attention (reading A)",
    "maf_values": "attention and values (reading B)",
    "item_vector": "item vector",
    "all_channels": "all channels",
    "item_vector_permuted": "item vector, permuted features",
}
GENERATED = ("demo", "demo_null")  # data sets whose effects are planted
PRIMARY = "protocol == 'full_unseen' and metric == 'ndcg' and k == 10"
BLOCK = re.compile(r"<!-- (\w+): generated -->\n.*?<!-- end -->", re.DOTALL)


def datasets(paths: Paths, settings: Config) -> list[str]:
    """Data sets of the replication that have results: a reader's own are no part of README."""
    ours = [name for name, about in settings.datasets.items() if about.source.kind != "folder" or about.archived]
    return [name for name in ours if paths.table(name, "gains").exists()]


def gains(paths: Paths, settings: Config) -> pd.DataFrame:
    """Gain of each of `CHANNELS` over SASRec, in shares of SASRec's NDCG@10 (full_unseen, test).

    Returns:
        dataset, experiment, gain, low, high (95 % interval), smallest (gain that could have been told), base (SASRec's
        NDCG@10), users, seeds.
    """
    found = []
    for dataset in datasets(paths, settings):
        table = _primary(paths, dataset, "gains").set_index("experiment").reindex(CHANNELS).dropna(how="all")
        base = _base(_primary(paths, dataset, "results"))
        found.append(_in_shares(table.reset_index(), base).assign(dataset=dataset, base=base))
    columns = ["dataset", "experiment", "gain", "low", "high", "smallest", "base", "users", "seeds"]
    if not found:
        return pd.DataFrame(columns=columns)
    return pd.concat(found)[columns].reset_index(drop=True).astype({"users": int, "seeds": int})


def _primary(paths: Paths, dataset: str, name: str) -> pd.DataFrame:
    return pd.read_csv(paths.table(dataset, name)).query(PRIMARY)


def _base(results: pd.DataFrame) -> float:
    """SASRec's mean on test."""
    return results.query("experiment == 'sasrec' and split == 'test'")["value"].mean()


def _in_shares(table: pd.DataFrame, base: float) -> pd.DataFrame:
    parts = {"gain": "difference", "low": "ci_low", "high": "ci_high", "smallest": "smallest"}
    return table.assign(**{name: table[column] / base for name, column in parts.items()})


def fill(paths: Paths, settings: Config) -> list[Path]:
    """Write the blocks of README.md and docs/*.md anew; returns the files that changed.

    Raises:
        ConfigError: a marker names no block.
    """
    table, changed = gains(paths, settings), []
    judged = pd.read_csv(paths.reports() / "claims.csv")
    judged = judged[judged["dataset"].isin(datasets(paths, settings))]
    blocks = {
        "findings": findings(paths, settings, table),
        "results": results(table),
        "counts": counts(judged),
        "verdicts": verdicts(judged),
        "main": main_results(paths, settings),
        "provenance": origins(paths),
        "advice": advice(paths, settings),
        "content": content(paths, table),
    }
    for file in [paths.root / "README.md", *sorted((paths.root / "docs").glob("*.md"))]:
        text = file.read_text(encoding="utf-8")
        if unknown := set(BLOCK.findall(text)) - set(blocks):
            raise ConfigError(f"{file.name}: no generated block {min(unknown)!r}; one of {list(blocks)}")
        filled = BLOCK.sub(lambda at: f"<!-- {at[1]}: generated -->\n{blocks[at[1]]}\n<!-- end -->", text)
        if filled != text:
            changed.append(file)
            with atomic(file) as path:
                path.write_text(filled, encoding="utf-8")
    return changed


def headline(table: pd.DataFrame) -> str:
    """The largest certain gain on real data, features of other items aside."""
    certain = table[~table["dataset"].isin(GENERATED) & (table["low"] > 0)]
    certain = certain[certain["experiment"] != "item_vector_permuted"].sort_values("gain", kind="stable")
    if certain.empty:
        return "On real data no channel gains over SASRec for certain"
    best = certain.iloc[-1]
    return f"{CHANNELS[best['experiment']]}: {best['gain']:+.0%} over SASRec on {best['dataset']}"


def findings(paths: Paths, settings: Config, table: pd.DataFrame) -> str:
    """A newcomer's questions, each with its answer; real data sets that could not have told `TOLD` stand apart."""
    real = table[~table["dataset"].isin(GENERATED)]
    told = real[real["smallest"] <= TOLD]
    counts, each = {}, {}
    for name in CHANNELS:
        of = told[told["experiment"] == name]
        counts[name] = f"{(of['low'] > 0).sum()} of {len(of)}"
        each[name] = ", ".join(f"{row.dataset} {_share(row)}" for row in of.itertuples()) or "not run yet"
    preferred_by = [
        f"{dataset} `{best}`" for dataset, best in _best(paths, settings).items() if dataset in set(told["dataset"])
    ]
    lines = [
        f"- **Does the paper hold?** Features that steer attention (reading A) beat SASRec for certain on "
        f"{counts['maf']} real data sets; features that also give its values (reading B) on {counts['maf_values']}.",
        f"- **By how much?** Reading A: {each['maf']}. Reading B: {each['maf_values']}.",
        f"- **Do features help elsewhere?** In the item vector that is scored: {each['item_vector']}; with the "
        f"features of other items: {each['item_vector_permuted']}.",
        f"- **Can I trust it?** {' '.join(instruments(paths, table))}",
        f"- **What should I use?** Validation prefers: {', '.join(preferred_by)}. [By data set](docs/what_to_use.md).",
    ]
    small = real[(real["experiment"] == "maf") & (real["smallest"] > TOLD)]
    if len(small):
        each = ", ".join(f"{row.dataset} {_percent(row.smallest, '.0')}" for row in small.itertuples())
        lines.append(f"- **Too small** to tell 10 %, so nothing is concluded from them (smallest gain told): {each}.")
    return "\n".join(lines)


def instruments(paths: Paths, table: pd.DataFrame) -> list[str]:
    """Sentences on generated shops of known effects: the demo, its control, and those of notebook 9, if it has run."""
    planted = table[table["dataset"].isin(GENERATED) & (table["experiment"] == "maf")]
    each = ", ".join(f"{row.dataset} {_share(row)}" for row in planted.itertuples())
    lines = [f"MAF where features decide (demo) and where they mean nothing (demo_null): {each}."]
    path = paths.reports() / "controls.csv"
    if not path.exists():
        return lines
    found = pd.read_csv(path)
    null = found[found["kind"] == "nothing"]
    share, low, high = controls.rate(null)
    interval = ", ".join(_percent(end, ".1") for end in (low, high))
    shops = f"{null['shop'].nunique()} generated shops without any effect"
    lines.append(f"False findings: {_percent(share, '.1')} [{interval}] of {len(null)} verdicts on {shops}.")
    if len(known := controls.overview(found[found["kind"] != "nothing"]).reset_index()):
        each = [f"{row.kind} planted, `{row.experiment}` {row.supported} of {row.shops}" for row in known.itertuples()]
        lines.append(f"Found in shops with a planted channel: {'; '.join(each)}.")
    return lines


def results(table: pd.DataFrame) -> str:
    """A row a data set: SASRec's NDCG@10, and the gain over it through each channel."""
    shown = {name: channel for name, channel in CHANNELS.items() if (table["experiment"] == name).any()}
    head = ["data set", "users", "SASRec", *(f"`{name}`" for name in shown), "smallest gain told"]
    rows = [head, ["---"] * len(head)]
    for dataset, of in table.groupby("dataset", sort=False):
        by = {row.experiment: row for row in of.itertuples()}
        cells = [_share(by[name]) if name in by else "" for name in shown]
        maf = by["maf"]
        rows.append([dataset, f"{maf.users:,}", f"{maf.base:.4f}", *cells, _percent(maf.smallest, ".0")])
    return _markdown(rows)


def counts(judged: pd.DataFrame) -> str:
    """Verdicts of all rows of evidence, counted by data set."""
    table = judged.groupby(["dataset", "verdict"], sort=False).size().unstack(fill_value=0)
    columns = [name for name in get_args(Verdict) if name in table]
    rows = [["data set", *columns], ["---"] * (1 + len(columns))]
    rows += [[dataset, *map(str, of)] for dataset, of in table[columns].iterrows()]
    return _markdown(rows)


def main_results(paths: Paths, settings: Config) -> str:
    """Test results of the groups `main`, `readings` and `channels`: mean over seeds and half of its 95 % interval."""
    rows = [["data set", "experiment", "HR@10", "NDCG@10", "MRR"], ["---"] * 5]
    for dataset in datasets(paths, settings):
        found = pd.read_csv(paths.table(dataset, "results")).astype({"k": "Int64"})
        found = found[found["group"].isin(["main", "readings", "channels"])]
        shown = tables.summary(found, "test", "full_unseen", [("hr", 10), ("ndcg", 10), ("mrr", None)])
        rows += [[dataset, name, *cells] for name, cells in zip(shown.index, shown.to_numpy(), strict=True)]
    return _markdown(rows)


def verdicts(judged: pd.DataFrame) -> str:
    """`claims.overview` with statements."""
    table = claims.overview(judged)
    statements = judged.drop_duplicates("id").set_index("id")["statement"]
    rows = [["claim", *table.columns], ["---"] * (1 + len(table.columns))]
    return _markdown(rows + [[statements[name], *of] for name, of in table.iterrows()])


def advice(paths: Paths, settings: Config) -> str:
    """What to use: a row for each real data set, the model that validation prefers."""
    head = ["data set", "best on validation", "gain over SASRec on test", "worth of a modality in MAF", "minutes a run"]
    rows = [head, ["---"] * len(head)]
    for dataset, best in _best(paths, settings).items():
        base = _base(_primary(paths, dataset, "results"))
        compared = _in_shares(_primary(paths, dataset, "comparisons"), base)
        gained = pd.concat([_in_shares(_primary(paths, dataset, "gains"), base), compared])
        of = gained[(gained["experiment"] == best) & (gained["baseline"] == "sasrec")]
        gain = _share(next(of.itertuples())) if len(of) else "SASRec itself"
        without = compared[compared["experiment"].str.startswith("without_")]
        worth = [f"{row.experiment.removeprefix('without_')} {_percent(-row.gain)}" for row in without.itertuples()]
        rows.append([dataset, f"`{best}`", gain, ", ".join(worth), _minutes(paths, settings, dataset, best)])
    return _markdown(rows)


def _best(paths: Paths, settings: Config) -> dict[str, str]:
    """Real data set -> the experiment that validation prefers."""
    real = [name for name in datasets(paths, settings) if name not in GENERATED]
    return {name: preferred(pd.read_csv(paths.table(name, "results"))).idxmax() for name in real}


def content(paths: Paths, gained: pd.DataFrame) -> str:
    """What may tell shops where content helps, beside the gain of the item vector: a row a data set."""
    head = ["data set", "choices an item", "rare answers", "image", "text", "category", "item vector"]
    rows = [head, ["---"] * len(head)]
    vectors = gained[gained["experiment"] == "item_vector"].set_index("dataset")
    for dataset in gained["dataset"].unique():
        if not (path := paths.table(dataset, "portrait")).exists():
            continue
        of = pd.read_csv(path).iloc[0]
        excess = [f"{of[name]:+.3f}" if name in of else "" for name in ("image", "text", "category")]
        gain = _share(vectors.loc[dataset]) if dataset in vectors.index else ""
        rows.append([dataset, f"{of['interactions'] / of['items']:.1f}", _percent(of["rare"], ".0"), *excess, gain])
    return _markdown(rows)


def preferred(results: pd.DataFrame) -> pd.Series:
    """Mean NDCG@10 (full_unseen) on validation of each experiment that one may use, from results.csv."""
    valid = results.query(f"{PRIMARY} and split == 'valid'")
    valid = valid[valid["group"].isin(["main", "readings", "channels", "baselines"])]
    return valid[valid["experiment"] != "item_vector_permuted"].groupby("experiment")["value"].mean()


def _minutes(paths: Paths, settings: Config, dataset: str, experiment: str) -> str:
    """Of a run on each device; blank without an archive."""
    took = archive.costs(paths.archive(dataset), [settings.experiment(dataset, experiment)])
    return ", ".join(f"{row.minutes / row.runs:.1f} ({row.device})" for row in took.itertuples())


def origins(paths: Paths) -> str:
    """Where the raw files of the reports came from."""
    known = provenance.load(paths.root / "references" / "provenance.yaml").items()
    rows = [["data set", "source", "what others rebuilt", "what may be shown"], ["---"] * 4]
    return _markdown(rows + [[name, of.source, of.rebuilt, of.shown] for name, of in known])


def _markdown(rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _share(row: Any) -> str:
    return f"{_percent(row.gain)} [{_percent(row.low)}, {_percent(row.high)}]"


def _percent(share: float, digits: str = "+.1") -> str:
    return f"{share:{digits}%}".replace("%", " %")
