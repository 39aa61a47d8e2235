"""A verdict and networks become a model folder, and a folder becomes scores.

Export to ONNX, sidecar, registry row, verification, and the consumer that checks before it scores.
Verification and scores load neither torch nor pandas.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "onnx": ["open_session"],
        "predict": ["Predictor", "predict_logs"],
        "publish": ["publish", "publish_formula"],
        "checks": ["verdicts", "verify"],
        "ship": ["ship_model"],
        "translate": ["publish_translations"],
        "translator": ["Translator", "translate_logs"],
    },
)
