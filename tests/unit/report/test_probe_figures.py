import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from mmrec.report import figures


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def whiskers(container):
    """Both ends of each, (n, 2)."""
    return np.array(container.lines[2][0].get_segments())[:, :, 1]


def drawn(axes):
    """Label -> what was drawn with error bars."""
    return {container.get_label(): container for container in axes.containers}


def test_whiskers_of_robustness_show_the_interval_of_the_loss():
    rows = [
        (kind, modality, level, 0.5 - loss, loss, loss - 0.01 * (level > 0), loss + 0.03 * (level > 0))
        for kind in ("missing", "noise")
        for modality, worst in (("image", 0.1), ("all", 0.2))
        for level, loss in ((0.0, 0.0), (1.0, worst))
    ]
    table = pd.DataFrame(rows, columns=["kind", "modality", "level", "ndcg_10", "loss", "ci_low", "ci_high"])
    left, right = figures.robustness(table.assign(experiment="maf"), 0.33).axes
    for axes in (left, right):
        found = drawn(axes)
        assert list(found) == ["image", "all at once"]
        for name, loss in (("image", 0.1), ("all at once", 0.2)):
            assert found[name].lines[0].get_ydata().tolist() == pytest.approx([0.5, 0.5 - loss])
            assert whiskers(found[name])[1].tolist() == pytest.approx([0.5 - loss - 0.03, 0.5 - loss + 0.01])
    assert "share" in left.get_xlabel() and "noise" in right.get_xlabel() and "NDCG@10" in left.get_ylabel()
    both = pd.concat(table.assign(experiment=name) for name in ("maf", "item_vector"))
    *_, left, right = figures.robustness(both, 0.33).axes
    assert "item_vector" in left.get_ylabel() and list(drawn(right)) == ["image", "all at once"]


def test_modality_dropout_shows_both_models_and_the_interval_of_the_difference():
    columns = ["modality", "level", "ndcg_10", "without", "difference", "ci_low", "ci_high"]
    rows = [("image", 0.0, 0.4, 0.5, -0.1, -0.12, -0.05), ("image", 1.0, 0.35, 0.2, 0.15, 0.1, 0.17)]
    (axes,) = figures.modality_dropout(pd.DataFrame(rows, columns=columns), 0.3).axes
    lines = {line.get_label(): line for line in axes.lines}
    assert lines["maf, trained without it"].get_ydata().tolist() == [0.5, 0.2]
    assert lines["maf, trained without it"].get_xdata().tolist() == [0, 100]
    (dropped,) = axes.containers
    assert dropped.lines[0].get_ydata().tolist() == [0.4, 0.35]
    # From the other model, the whiskers are the interval of the difference.
    assert (whiskers(dropped) - [[0.5], [0.2]]) == pytest.approx(np.array([[-0.12, -0.05], [0.1, 0.17]]))
    assert axes.get_title(loc="left") == "image"


def test_slices_name_parts_without_any_hit():
    columns = ["slice", "label", "users", "ndcg_10", "baseline", "difference", "ci_low", "ci_high"]
    rows = [
        ("popularity of the answer", "0", 7, 0.0, 0.0, 0.0, 0.0, 0.0),
        ("popularity of the answer", "1 to 3", 9, 0.2, 0.1, 0.1, 0.05, 0.15),
        ("length of the history", "1 to 3", 16, 0.1, 0.1, 0.0, -0.1, 0.1),
    ]
    left, right = figures.slices(pd.DataFrame(rows, columns=columns).assign(experiment="maf")).axes
    assert [text.get_text() for text in left.get_yticklabels()] == [
        "0 (7 users,\nno answer found by either)",
        "1 to 3 (9 users)",
    ]
    assert left.get_title(loc="left") == "times the next item was chosen in training"
    assert "maf - sasrec" in left.get_xlabel() and [text.get_text() for text in right.get_yticklabels()] == [
        "1 to 3 (16 users)"
    ]


def test_gradient_agreement_has_a_line_for_each_task_and_seed():
    curves = pd.DataFrame({"seed": [0, 0, 1], "epoch": [1, 2, 1], "cos_id_text": [0.1, -0.2, 0.3]})
    curves = curves.assign(conflict_id_text=[0.25, 0.75, 0.0], cos_image_text=9.0, conflict_image_text=9.0)
    left, right = figures.gradient_agreement(curves).axes
    assert [line.get_ydata().tolist() for line in left.lines[:2]] == [[0.1, -0.2], [0.3]]
    assert [line.get_ydata().tolist() for line in right.lines] == [[25, 75], [0]]
    assert [text.get_text() for text in left.figure.legends[0].get_texts()] == ["text (a line: a seed)"]


def test_attended_shows_the_difference_to_sasrec():
    compared = pd.DataFrame({"modality": ["image", "text"], "users": [7, 9], "difference": [0.1, -0.2]})
    (axes,) = figures.attended(compared.assign(ci_low=[0.05, -0.4], ci_high=[0.2, -0.1])).axes
    (apart,) = axes.containers
    assert apart.lines[0].get_xdata().tolist() == [0.1, -0.2]
    ends = np.array(apart.lines[2][0].get_segments())[:, :, 0]
    assert ends == pytest.approx(np.array([[0.05, 0.2], [-0.4, -0.1]]))
    assert [text.get_text() for text in axes.get_yticklabels()] == ["image (7 users)", "text (9 users)"]
