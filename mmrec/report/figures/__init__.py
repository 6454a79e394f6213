"""Figures of the notebooks. Each function draws one figure and returns it; `show` keeps it beside the notebook."""

# ruff: noqa: F401
from mmrec.report.figures.data import consecutive_similarity, picture_grid, presence, shape_of_data, thumbnail
from mmrec.report.figures.probes import (
    attended,
    attention,
    gradient_agreement,
    modality_dropout,
    robustness,
    slices,
    stream_shares,
)
from mmrec.report.figures.results import forest, gains, learning_curves, ratios, results_bars, trials, verdicts
from mmrec.report.figures.style import quantised, show
