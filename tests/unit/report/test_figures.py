import io

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mmrec.report import figures
from mmrec.report.figures import style


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def bars(groups):
    names = [f"e{number}" for number in range(len(groups))]
    table = {"group": groups, "experiment": names, "mean": 0.2, "low": np.nan, "high": np.nan}
    return (
        pd.DataFrame(table)
        .assign(values=[[0.1, 0.3]] * len(groups), index=range(5, 5 + len(groups)))
        .set_index("index")
    )


def test_each_group_has_a_header_above_its_experiments():
    (axes,) = figures.results_bars(bars(["main", "main", "loss"]), "NDCG@10 on test").axes
    rows = {label.get_text(): y for label, y in zip(axes.get_yticklabels(), axes.get_yticks(), strict=True)}
    headers = {text.get_text(): text.get_position()[1] for text in axes.texts}
    assert list(rows) == ["e0", "e1", "e2"] and list(headers) == ["main", "loss"]
    places = [headers["main"], rows["e0"], rows["e1"], headers["loss"], rows["e2"]]
    assert np.diff(places).tolist() == [1, 1, 1, 1]
    bottom, top = axes.get_ylim()
    assert top < places[0] and places[-1] < bottom
    assert [bar.get_y() + bar.get_height() / 2 for bar in axes.patches] == pytest.approx(list(rows.values()))
    assert axes.get_xlabel().startswith("NDCG@10 on test")


def test_a_single_group_has_no_header():
    (axes,) = figures.results_bars(bars(["main"] * 3), "NDCG@10").axes
    assert not axes.texts and np.diff(axes.get_yticks()).tolist() == [1, 1]


def test_a_forest_marks_significant_differences():
    table = pd.DataFrame(
        {
            "group": ["main", "loss", "loss"],
            "experiment": ["maf", "mse", "id_only"],
            "baseline": ["sasrec", "maf", "maf"],
            "difference": [0.3, 0.1, -0.2],
            "ci_low": [0.2, -0.1, -0.4],
            "ci_high": [0.4, 0.3, 0.0],
            "p_holm": [0.001, 0.05, 0.2],
        }
    )
    (axes,) = figures.forest(table, "NDCG@10 on test").axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["maf - sasrec", "mse - maf", "id_only - maf"]
    found, not_found = ([*dots.lines[0].get_xdata()] for dots in axes.containers)
    assert (found, not_found) == ([0.3], [0.1, -0.2])
    whiskers = np.concatenate([np.array(dots.lines[2][0].get_segments())[:, :, 0] for dots in axes.containers])
    assert whiskers == pytest.approx(table[["ci_low", "ci_high"]].to_numpy())


def test_the_legend_of_a_forest_is_not_cut_beside_long_names():
    rows = [("main", "an_experiment_with_a_long_name", "its_control_too", 0.1, 0.0, 0.2, p) for p in (0.01, 0.5)]
    columns = ["group", "experiment", "baseline", "difference", "ci_low", "ci_high", "p_holm"]
    figure = figures.forest(pd.DataFrame(rows, columns=columns), "NDCG@10 on test")
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert len(legend.get_texts()) == 2 and figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1


def test_each_verdict_is_in_the_row_of_its_claim_and_the_column_of_its_data_set():
    rows = [("a_b", "demo", "supported"), ("a_b", "shop", "inconclusive"), ("a_b", "shop", "underpowered")]
    judged = pd.DataFrame([*rows, ("c", "demo", "not supported")], columns=["id", "dataset", "verdict"])
    (axes,) = figures.verdicts(judged).axes
    found = {dots.get_label(): dots.get_offsets().tolist() for dots in axes.collections}
    assert found["supported"] == [[0, 0]] and found["not supported"] == [[0, 1]]
    assert found["inconclusive"] == [[0.8, 0]] and found["underpowered"] == [[1.2, 0]]  # side by side
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a b", "c"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["demo", "shop"]
    assert len({tuple(dots.get_facecolor()[0]) for dots in axes.collections if len(dots.get_offsets())}) == 3


def test_verdicts_of_40_claims_fit_on_a_page():
    judged = pd.DataFrame(
        {"id": [f"claim_{number}" for number in range(40)], "dataset": "demo", "verdict": "supported"}
    )
    width, height = figures.verdicts(judged).get_size_inches() * 150
    assert width <= 1200 and height <= 1700


def test_published_numbers_stand_under_their_protocol_at_their_ratio():
    rows = [
        ("SASRec", "full_all", "hr", 10, 0.08, "a paper (2018): whole", 0.09),
        ("SASRec", "sampled_100", "hr", 10, 0.4, "a paper: 99", 0.2),
    ]
    table = pd.DataFrame(rows, columns=["model", "protocol", "metric", "k", "published", "source", "ours"])
    table = pd.concat([table, table[:1].assign(model="not run", ours=np.nan)])
    (axes,) = figures.ratios(table.assign(ci_low=table["ours"], ci_high=np.nan)).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["SASRec, HR@10 (a paper)"] * 2
    assert [text.get_text() for text in axes.texts] == ["full_all", "sampled_100"]
    (dots,) = axes.containers
    assert dots.lines[0].get_xdata() == pytest.approx([1.125, 0.5])


def test_a_ring_marks_the_first_trial_and_a_triangle_positions_from_the_latest():
    table = pd.DataFrame(
        [("a", 0, 0.2, "oldest"), ("a", 3, 0.3, "oldest"), ("a", 0, 0.4, "latest"), ("b", 0, 0.1, None)],
        columns=["experiment", "trial", "valid_ndcg_10", "positions_from"],
    )
    (axes,) = figures.trials(table).axes
    drawn = {line.get_label(): list(zip(line.get_xdata(), line.get_ydata(), strict=True)) for line in axes.lines}
    assert drawn["as it stood"] == [(0.2, 0), (0.1, 1)]
    assert drawn["positions from the latest"] == [(0.4, 0)]
    assert drawn["positions from the oldest"] == [(0.2, 0), (0.3, 0), (0.1, 1)]


def test_a_stored_figure_names_its_data_set(tmp_path):
    figure = figures.presence({"image": 0.5})
    path = tmp_path / "demo" / "figures" / "01_modalities.png"
    figures.show(figure, path)
    assert figure.get_supxlabel() == "demo" and Image.open(path).mode == "P"
    first = path.read_bytes()
    figures.show(figure, path)
    assert path.read_bytes() == first


def test_a_shown_figure_has_its_message_as_alternative_text(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(style, "display", shown.append)
    few = figures.presence({"image": 0.5, "text": 1.0})
    lengths = figures.shape_of_data(np.array([3, 5, 9]), np.arange(1, 21))
    for number, figure in enumerate((few, lengths)):
        figures.show(figure, tmp_path / "demo" / "figures" / f"{number}.png")
    told = [picture._repr_mimebundle_()[1]["image/png"]["alt"] for picture in shown]
    assert told[0] == "Least known is image: 50% of the items have it"
    assert told[1] == "Half of the users chose at most 5 items; a tenth of the items has 19% of the choices"


def png(pixels):
    kept = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(kept, "PNG")
    return kept.getvalue()


def opened(data):
    return Image.open(io.BytesIO(data))


def test_quantising_a_plot_keeps_its_colours_and_is_idempotent():
    flat = np.zeros((60, 80, 3)) + 255
    flat[10:20, 10:20], flat[30:40, 30:40] = (194, 65, 12), (29, 78, 216)
    small = figures.quantised(png(flat))
    assert (np.asarray(opened(small).convert("RGB")) == flat).all()
    assert figures.quantised(small) == small and figures.quantised(png(flat)) == small


def test_a_photograph_keeps_more_colours_than_a_plot():
    ramp = np.stack(np.meshgrid(np.arange(256), np.arange(256)), 2)
    photograph = np.concatenate([ramp, np.full((256, 256, 1), 128)], 2)
    few = photograph.copy()
    few[..., 1] //= 16
    counts = [len(opened(figures.quantised(png(pixels))).getcolors()) for pixels in (few, photograph)]
    assert counts[0] <= 128 < counts[1] <= 256
    error = np.abs(np.asarray(opened(figures.quantised(png(photograph))).convert("RGB")).astype(int) - photograph)
    assert error.mean() < 6


def test_many_lengths_share_bars():
    for longest, wide in ((30, 1), (250, 4)):
        lengths = np.arange(1, longest + 1)
        left, _ = figures.shape_of_data(lengths, np.array([3, 2, 1])).axes
        heights = [bar.get_height() for bar in left.patches]
        assert max(heights) == wide and ("a bar" in left.get_ylabel()) == (wide > 1)
        assert sum(heights) >= 0.99 * longest


TITLES = {
    "Ca$$h 10 % off": "Ca$$h 10 % off",
    "$a_1^{2}$ and $": "$a_1^{2}$ and $",
    "{x} _ ^ \\\\": "{x} _ ^ \\\\",
    "two\n lines\t": "two lines",
    "靴 shoe": "· shoe",
    "👟🏽 null \x00": "·· null ·",
    "x" * 6_000: "x" * 23 + "…",
    "靴" * 6_000: "·" * 23 + "…",
    "exactly twenty-four long": "exactly twenty-four long",
}


@pytest.mark.parametrize(("title", "label"), TITLES.items())
@pytest.mark.filterwarnings("error")
def test_titles_are_one_short_line_without_mathematics_or_boxes(tmp_path, title, label):
    broken = tmp_path / "a.jpg"
    broken.write_bytes(b"\xff\xd8\xff")
    grid = figures.picture_grid([[(broken, title), (None, title)]])
    assert [[text.get_text() for text in axes.texts] for axes in grid.axes] == [
        ["unreadable", label],
        ["no picture", label],
    ]
    attention = figures.attention([(np.eye(2), np.ones((1, 2)), [title, "other"])], ["item"])
    assert [text.get_text() for text in attention.axes[0].get_yticklabels()] == [label, "other"]
    for figure in (grid, attention):
        figure.canvas.draw()  # warns of glyphs that the font lacks
        assert figure.get_suptitle().startswith("· a character that the font") == ("·" in label)


def test_a_grid_of_no_pictures_says_so():
    figure = figures.picture_grid([])
    assert [text.get_text() for text in figure.axes[0].texts] == ["no picture", ""]
