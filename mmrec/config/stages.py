"""The settings of each stage: one small JSON file a stage and data set, a dependency in dvc.yaml.

DVC compares bytes, so an edit of params.yaml makes stale exactly the stages whose file changes. A key that params.yaml
leaves out stands in the files with its default.
"""

import json
from dataclasses import asdict
from typing import Any

from mmrec.config import Config, Experiment, Paths, Runtime

TRAINING_PROBES = "probes"  # the group of experiments that notebook 5b looks into


def of_stages(settings: Config, dataset: str) -> dict[str, dict[str, Any]]:
    """Stage -> every setting that the stage uses on `dataset`, resolved."""
    about, tuning = settings.datasets[dataset], asdict(settings.tuning)
    names = ("source", "title", "user_core", "item_core", "split", "repeats", "expected")
    raw = {name: asdict(about)[name] for name in names}
    features = {"source": raw["source"], "category": about.category, "runtime": _arithmetic(settings.runtime)}
    for modality in ("image", "text"):
        name = getattr(about, modality)
        features[modality] = asdict(settings.encoders[name]) if name in settings.encoders else name
    given = {"given": about.given} if about.given else {}  # files that notebook 1 looks at
    negatives = [settings.protocol.negatives, settings.protocol.negatives_seed]
    main, every = (_as_dicts(settings.resolve(dataset, *groups)) for groups in (["main"], []))
    readings = [experiment for experiment in every if experiment["group"] in ("main", "readings")]
    probes = [experiment for experiment in every if experiment["group"] in ("main", TRAINING_PROBES)]
    untuned = _as_dicts(settings.resolve(dataset, tuned=False))
    asked = {
        "modalities": about.modalities,
        "protocol": asdict(settings.protocol_of(dataset)),
        "runtime": _arithmetic(settings.runtime_of(dataset)) | {"encoder_threads": None},  # of feature extraction alone
    }
    runs = asked | {"archived": about.archived, "seeds": settings.seeds_of(dataset)}
    return {
        "fetch": {"source": raw["source"]},
        "prepare": raw | {"modalities": about.modalities, "negatives": negatives} | given,
        "features": features,
        "tune": asked | {"experiments": untuned, "tuning": tuning},
        "finalists": runs | {"experiments": untuned, "tuning": {"space": tuning["space"]}},
        "train": runs | {"experiments": main},
        "ablate": runs | {"experiments": every},
        "probe": runs | {"experiments": readings},
        "explore": runs | {"experiments": readings},
        "probe_training": runs | {"experiments": probes},
        "results": runs | {"experiments": every},
        "published": runs | {"experiments": every},
    }


def _arithmetic(runtime: Runtime) -> dict[str, Any]:
    """Settings that results depend on."""
    return {name: value for name, value in asdict(runtime).items() if name != "engine"}


def _as_dicts(experiments: list[Experiment]) -> list[dict[str, Any]]:
    return [asdict(one) | {"model": {"name": type(one.model).__name__} | asdict(one.model)} for one in experiments]


def write(paths: Paths, settings: Config) -> None:
    """Bring data/settings/ up to date: <dataset>/<stage>.json, and claims.json and controls.json.

    A file whose content stays is left alone; a file of a stage or data set that is gone is removed.
    """
    found = {name: of_stages(settings, name) for name in settings.datasets}
    folder = paths.work / "data" / "settings"
    wanted = {folder / name / f"{stage}.json": about for name in found for stage, about in found[name].items()}
    wanted[folder / "claims.json"] = {name: stages["results"] for name, stages in found.items()}
    if "demo" in found:
        known = [group for group in ("readings", "channels") if group in settings.experiments]
        further = _as_dicts(settings.resolve("demo", *known)) if known else []
        wanted[folder / "controls.json"] = {"train": found["demo"]["train"], "further": further}
    for path in set(folder.rglob("*.json")) - set(wanted):
        path.unlink()
        if not any(path.parent.iterdir()):
            path.parent.rmdir()
    for path, about in wanted.items():
        text = _text(about)
        if not path.is_file() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


def outdated(paths: Paths, settings: Config, dataset: str, stage: str) -> bool:
    """Whether the settings of a stage differ from those that the last `dvc repro` wrote."""
    path = paths.work / "data" / "settings" / dataset / f"{stage}.json"
    return path.is_file() and path.read_text() != _text(of_stages(settings, dataset)[stage])


def _text(about: Any) -> str:
    return json.dumps(about, indent=1, sort_keys=True, ensure_ascii=False, default=str) + "\n"


def targets(paths: Paths, settings: Config, dataset: str) -> list[str]:
    """DVC's names of the stages that end in tables of `dataset`, where each one's question applies."""
    names = ["results", "probe"]
    if TRAINING_PROBES in settings.datasets[dataset].groups:
        names.append("probe_training")
    if (paths.root / "references" / "published" / f"{dataset}.csv").is_file():
        names.append("published")
    return [f"{name}@{dataset}" for name in names]
