"""Clips become rows.

A clip is decoded, encoded by one encoder at one quality value, checked frame by frame and scored by
libvmaf; many such cells run here, on several processes or on a Dask cluster. The maker of the
stress set works the same way with filters.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "cell": ["Cell"],
        "store": [
            "CellStore",
            "at_scales",
            "build_grid",
            "make_corpus",
            "usable_encoders",
            "work_here",
            "write_provenance",
            "written_beside",
        ],
        "ffmpeg": ["default_ffmpeg", "ffmpeg_version"],
        "clips": ["find_sources"],
        "grid": ["on_cluster"],
        "stress": ["clip_rate", "make_stress", "plan", "write_stress_provenance"],
    },
)
