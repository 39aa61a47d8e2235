# Run by the tests' processes and by every kernel they start (see conftest). What those import
# stays, and to look through it for garbage again and again takes a tenth of their time. A name
# would be one of the notebook's.
__import__("gc").set_threshold(100_000, 10, 10)
