"""Rows become networks.

Arrays and a recipe come in; trained networks come out, the same to the last bit in any batch and on
any number of cores. Nothing here knows of files, folds or verdicts.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "batch": ["Job", "N_FEATURES", "Scaler", "Trained", "new_model"],
        "made": ["HIGHEST", "MOTION_MAX", "draw_domain", "into_domain", "made_count"],
        "many": ["keep_processes", "pick_device", "train_many"],
        "model": ["FRRegressor", "ShippedRegressor"],
        "recipe": ["DEFAULT_RECIPE", "RECIPES", "Recipe", "beside", "recipe_for"],
        "translation": ["FIXED", "Translation", "fit_translation"],
    },
)
