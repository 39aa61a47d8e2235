"""Small made-up tables that several files of tests start from."""

from fr_lib.corpus import synthetic_table


def rows_of(encoders=("libx264",), qualities=(20, 40), sources=3, frames=4, seed=0):
    return synthetic_table(encoders, qualities, sources, frames, seed)


def renamed(table, *names):
    """Give the made-up sources these names, in the order of the rows."""
    return table.assign(src=table["src"].map(dict(zip(table["src"].unique(), names, strict=True))))
