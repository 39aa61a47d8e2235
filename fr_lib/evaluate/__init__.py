"""Networks become evidence, and evidence a verdict.

A corpus and a recipe come in; leave-one-source-out, transfer, ablation and the measures outside the
corpus go out as plain values, and the gate judges them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "ablation": ["run_ablation"],
        "another": ["run_another"],
        "compare": ["compare_runs"],
        "gate": [
            "LIFT_CLAUSE",
            "LIFT_FLOOR",
            "SEED_CLAUSE",
            "adr_clauses",
            "adr_statement",
            "evaluate_gate",
            "failed_clauses",
            "reference_table",
            "require_pass",
            "statement",
            "verdict",
        ],
        "own": ["MIN_ROWS", "own_clauses"],
        "clauses": ["MEAN_PLCC", "MIN_SOURCES", "RETRAIN_PENDING", "WORST_PLCC"],
        "loso": [
            "BOOTSTRAP_DRAWS",
            "input_table",
            "joined",
            "measure",
            "run_loso",
            "worst_frames",
        ],
        "outside": ["measure_outside", "shipped_report"],
        "rivals": ["MAP"],
        "translation": ["make_translation"],
        "transfer": ["LEAVE_ONE_OUT", "ONE_CODEC", "run_transfer"],
    },
)
