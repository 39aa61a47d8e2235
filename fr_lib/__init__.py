"""fr_lib: the thin library behind the notebooks, the command line and the tests."""

__version__ = "0.1.0"
