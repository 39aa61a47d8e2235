"""What a corpus is, and what can be said of it before any training.

A file of rows, a libvmaf log or the stress set comes in, is checked row by row, and goes out as a
``Corpus`` with the facts of its audit. The teacher, which decides what a right score is, lives here
too.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "collect": ["collect", "written_by_collect"],
        "domain": ["domain_of", "outside_domain"],
        "audit": ["MIN_FAMILIES", "TEACHER_TOLERANCE", "audit_corpus", "find_provenance"],
        "load": ["Corpus", "load_corpus"],
        "rows": ["SUFFIXES", "read_table", "write_table"],
        "logs": [
            "FEATURE_NAMES",
            "Log",
            "MOST",
            "SAME_TEACHER",
            "agrees",
            "read_log",
            "who_scored",
        ],
        "stress_set": ["KINDS", "STRESS_SET", "read_stress"],
        "synthetic": ["synthetic_table"],
        "teachers": [
            "MODEL_FILE",
            "MODEL_FOLDER",
            "MODEL_PACKAGE",
            "TEACHERS",
            "V061",
            "Teacher",
            "formula_applies",
            "svr_parameters",
            "teacher_of",
            "vmaf_from_features",
        ],
    },
)
