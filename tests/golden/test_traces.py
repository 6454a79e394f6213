"""Numbers of every model stay where they were committed; where they move, the version of the results is to rise."""

import dataclasses
from typing import Literal, get_args, get_origin, get_type_hints

import mutants
import pytest
import traces

from mmrec import config
from mmrec.experiments.versions import RESULTS_VERSIONS

COMMITTED = traces.load()


def complaint(name: str, new: dict[str, list[float]]) -> str:
    """What moved in a trace and what is to be done about it; empty if nothing did."""
    far = {key: times for key, times in traces.compared(COMMITTED[name], new).items() if times > 1}
    if not far:
        return ""
    most = ", ".join(f"{key} by {times:.3g}" for key, times in sorted(far.items(), key=lambda pair: -pair[1])[:4])
    return (
        f"trace {name} moved, in tolerances: {most} ({len(far)} of {len(new)} series). If this is meant: "
        f"{traces.remedy(name)}, and write the traces anew with `python tests/golden/write.py`"
    )


@pytest.mark.parametrize("name", traces.NAMES)
def test_a_trace_is_as_committed(name):
    if found := complaint(name, traces.trace(name)):
        pytest.fail(found, pytrace=False)


def test_every_mutant_is_of_the_code_as_it_is():
    for changes in mutants.MUTANTS.values():
        for old, _ in changes:
            mutants.place(old)  # raises where the text does not stand once


def test_committed_traces_are_those_of_the_table():
    assert list(COMMITTED) == traces.NAMES


def test_every_model_has_a_version_and_a_trace():
    assert set(RESULTS_VERSIONS) == {"shared", *config.MODELS}
    assert set(traces.MODELS) == set(config.MODELS)


@pytest.mark.parametrize("family", config.MODELS)
def test_every_choice_of_a_model_has_a_trace(family):
    values = [traces.chosen(name)[0] for name in traces.VARIANTS if traces.family(name) == family]
    for setting, kind in get_type_hints(config.MODELS[family]).items():
        if get_origin(kind) is Literal:
            assert set(get_args(kind)) == {v.get(setting) for v in values}, setting


@pytest.mark.parametrize("place, settings", [(1, config.Training), (2, config.DataControls)])
def test_every_choice_of_training_and_of_data_has_a_trace(place, settings):
    values = [traces.chosen(name)[place] for name in traces.VARIANTS]
    choices = {f.name: get_args(f.type) for f in dataclasses.fields(settings) if get_origin(f.type) is Literal}
    assert choices
    for setting, allowed in choices.items():
        assert set(allowed) == {value.get(setting) for value in values}, setting


def test_a_moved_number_names_the_trace_the_distance_and_the_version():
    name = "maf/gate"
    new = {**COMMITTED[name], "id": [value * (1 + 5 * traces.RELATIVE) for value in COMMITTED[name]["id"]]}
    found = complaint(name, new)
    assert "trace maf/gate moved, in tolerances: id by 5 (1 of " in found
    assert "raise `maf` (or `shared`, when several families moved) in mmrec/experiments/versions.py" in found


def test_last_bits_and_one_swapped_pair_are_no_move():
    trace = dict(COMMITTED["maf"])
    trace["id"] = [value * (1 + traces.RELATIVE / 2) for value in trace["id"]]
    trace["rank_test_full_all"] = [trace["rank_test_full_all"][0] + 1, *trace["rank_test_full_all"][1:]]
    assert complaint("maf", trace) == ""


def test_a_lost_or_new_series_is_a_move():
    trace = dict(COMMITTED["maf"])
    lost = trace.pop("gradient_norm")
    assert "gradient_norm by inf" in complaint("maf", trace)
    assert "more by inf" in complaint("maf", {**trace, "gradient_norm": lost, "more": [1.0]})
