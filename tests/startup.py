# Run by every kernel that tests start (see conftest). What it imports stays: to look through that
# for garbage again and again takes a tenth of its time. No name is left behind.
__import__("gc").set_threshold(100_000, 10, 10)
