"""Figures: ``plot_x(data, *, ax) -> Axes``, or a whole figure where it has panels."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "style": ["PALETTE", "WIDTH_IN", "figure", "rows_height"],
        "corpus": ["plot_coverage", "plot_ladders", "plot_vmaf_histogram"],
        "folds": ["fold_grid", "plot_lift", "plot_per_source", "plot_predicted", "plot_residuals"],
        "recipes": [
            "another_grid",
            "ladder_grid",
            "plot_ablation",
            "plot_outside",
            "plot_transfer",
            "transfer_grid",
        ],
    },
)
