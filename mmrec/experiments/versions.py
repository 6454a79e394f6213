"""Versions of results: a run's key holds them in place of the code.

A change that moves numbers on purpose raises a version here, and its runs are made anew. `tests/golden` notices the
move and names the version.
"""

from mmrec import config

RESULTS_VERSIONS = {
    "shared": 1,  # data, features, layers, losses, training, evaluation: the numbers of several families
    "popularity": 1,
    "item_knn": 1,
    "markov_chain": 1,
    "gru4rec": 1,
    "caser": 1,
    "bert4rec": 1,
    "sasrec": 1,
    "sasrecf": 1,
    "fdsa": 1,
    "unisrec": 1,
    "nova": 1,
    "maf": 1,
}


def results_version(options: type[config.Model]) -> dict[str, int]:
    """Version of the shared parts and of the family that a class of settings belongs to."""
    family = {kind: name for name, kind in config.MODELS.items()}[options]
    return {name: RESULTS_VERSIONS[name] for name in ("shared", family)}
