"""Files of a run become tables, figures and the book.

Nothing is computed here that a file of the run does not hold.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["another", "outside", "plots", "tables", "transfer"],
    submod_attrs={
        "book": ["build_book"],
        "compare": ["write_comparison"],
        "hosted": ["publish_book"],
        "start": ["chapters_list"],
    },
)
