"""One run's files.

The run directory is all that notebooks share: each file carries the run's id and the hash of its
corpus and is refused where it does not belong. Networks and evidence that take minutes are kept
with the stamps of what made them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "chapters": ["ANOTHER", "ARTEFACTS", "CHAPTERS", "Chapter", "PAGES", "STEPS"],
        "evidence": ["find", "get_evidence", "keep", "seed_folds", "why_missing"],
        "lab": ["LAB_ONLY", "glue", "open_run"],
        "parameters": ["PARAMETERS", "fault_of", "judge_parameters", "refuse"],
        "networks": ["load_networks", "save_networks"],
        "rundir": ["PROGRESS", "RunDir", "UNFINISHED", "plain", "project_path"],
    },
)
