"""The settings of each stage, as one small JSON file a stage and data set, which dvc.yaml names as a dependency.

DVC compares bytes. An edit of params.yaml therefore makes stale exactly the stages whose file changes. A key that
params.yaml leaves out stands in the files with its default.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from typing import Any

from mmrec.config import Config, Paths

TRAINING_PROBES = "probes"  # the group of experiments that notebook 5b looks into


def of_stages(settings: Config, dataset: str) -> dict[str, dict[str, Any]]:
    """Stage -> every setting that the stage uses on `dataset`, resolved."""
    about = settings.datasets[dataset]
    source, tuning = asdict(about.source), asdict(settings.tuning)
    both_ends = {"both_ends": tuning.pop("both_ends"), "space": tuning["space"]}  # of the finalists alone
    main = _experiments(settings, dataset, ["main"])
    every = main + _experiments(settings, dataset, [group for group in about.groups if group != "main"])
    probes = _experiments(settings, dataset, [group for group in about.groups if group == TRAINING_PROBES])
    untuned = _experiments(settings, dataset, about.groups, tuned=False)
    asked = {
        "modalities": about.modalities,
        "protocol": asdict(settings.protocol),
        "runtime": {**asdict(settings.runtime_of(dataset)), "encoder_threads": None},  # of feature extraction alone
    }
    runs = asked | {"archived": about.archived, "seeds": settings.seeds_of(dataset)}
    return {
        "fetch": {"source": source},
        "prepare": {
            "title": about.title,
            "source": source,
            "user_core": about.user_core,
            "item_core": about.item_core,
            "split": asdict(about.split),
            "expected": asdict(about.expected) if about.expected else None,
            "modalities": about.modalities,
            "negatives": [settings.protocol.negatives, settings.protocol.negatives_seed],
        },
        "features": {
            "source": source,
            "image": asdict(settings.encoders[about.image]) if about.image else None,
            "text": asdict(settings.encoders[about.text]) if about.text else None,
            "category": about.category,
            "runtime": asdict(settings.runtime),
        },
        "tune": asked | {"experiments": untuned, "tuning": tuning},
        "finalists": runs | {"experiments": untuned, "tuning": both_ends},
        "train": runs | {"experiments": main},
        "ablate": runs | {"experiments": every},
        "probe": runs | {"experiments": main},
        "probe_training": runs | {"experiments": main + probes},
        "results": runs | {"experiments": every},
        "published": runs | {"experiments": every},
    }


def _experiments(settings: Config, dataset: str, groups: Iterable[str], tuned: bool = True) -> list[dict[str, Any]]:
    found = [experiment for group in groups for experiment in settings.resolve(dataset, group, tuned)]
    return [asdict(one) | {"model": {"name": type(one.model).__name__} | asdict(one.model)} for one in found]


def write(paths: Paths, settings: Config) -> None:
    """Bring data/settings/ up to date: <dataset>/<stage>.json, and claims.json of all data sets together.

    A file whose content stays is left alone; a file of a stage or data set that is gone is removed.
    """
    found = {
        f"{name}/{stage}": about for name in settings.datasets for stage, about in of_stages(settings, name).items()
    }
    found["claims"] = {name: found[f"{name}/results"] for name in settings.datasets}
    folder = paths.work / "data" / "settings"
    as_text = partial(json.dumps, indent=1, sort_keys=True, ensure_ascii=False, default=str)
    wanted = {folder / f"{name}.json": as_text(about) + "\n" for name, about in found.items()}
    for path in set(folder.rglob("*.json")) - set(wanted):
        path.unlink()
        if not any(path.parent.iterdir()):
            path.parent.rmdir()
    for path, text in wanted.items():
        if not path.is_file() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


def targets(paths: Paths, settings: Config, dataset: str) -> list[str]:
    """DVC's names of the stages that end in tables of `dataset`, where each one's question applies."""
    names = ["results", "probe"]
    if TRAINING_PROBES in settings.datasets[dataset].groups:
        names.append("probe_training")
    if (paths.root / "references" / "published" / f"{dataset}.csv").is_file():
        names.append("published")
    return [f"{name}@{dataset}" for name in names]
