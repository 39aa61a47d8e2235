"""One source under two names, parts of one title: what LOSO must not take for two sources."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from fr_lib.corpus.load import _SIZES, Corpus, made_up
from fr_lib.schema import CANONICAL_6

TWIN_SHARE = 0.5
# Fewer equal values of motion2 (six decimals) can be chance.
MIN_MOTION = 3
# Frames dealt out come to 1.09 at most and different clips to 1.17 at least: see nearness().
NEAR = 1.12
MIN_CELLS, MAX_CELLS = 3, 24
MIN_FRAMES, MAX_FRAMES = 3, 100
MAX_APART = 3.0
# Below this a difference of features is libvmaf's rounding and an encoder's chance.
LOG_STEP = 1e-4

_EXTENSION = re.compile(
    r"\.(y4m|yuv|rgb|mp4|mkv|mov|webm|avi|ts|m2ts|mxf|264|265|h264|h265|hevc|ivf|obu|vvc|266)$"
)
# Marks of a rendition at the end of a file name, with the separator before them.
_RENDITION = re.compile(
    r"[_\-. ](\d{3,4}x\d{3,4}|\d{3,4}[pi]\d{0,3}|[248]k|uhd|fhd|hd|q?cif|4cif|"
    r"\d{1,3}([._]\d{1,3})?fps|\d{1,3}hz|(yuv)?4[024][024](p|p\d\d(le|be)?)?|\d{1,2}bits?)$"
)
# Words that number clips rather than name a title.
# fmt: off
_GENERIC = frozenset((
    "src", "source", "clip", "video", "vid", "seq", "sequence", "sample",
    "test", "ref", "reference", "scene", "shot", "content", "file", "movie",
    "synthetic", "item", "part", "segment", "chunk", "take", "original",
))
# fmt: on
_PART = re.compile(r"^(?P<title>.*[a-z])\d{1,2}$")


def source_stem(name: str) -> str:
    """Return what is left of a source's name: no case, extension, size, rate, format, separators.

    Examples
    --------
    >>> source_stem("Crowd_Run_1080p50_29.97fps.Y4M")
    'crowdrun'
    """
    stem = _EXTENSION.sub("", name.strip().lower())
    shorter = _RENDITION.sub("", stem)
    while shorter != stem:
        stem, shorter = shorter, _RENDITION.sub("", shorter)
    return re.sub(r"[\W_]+", "", stem) or name


def _title(name: str) -> str | None:
    """Return the stem without a part number of one or two digits; None where it names no title."""
    stem = source_stem(name)
    part = _PART.match(stem)
    title = part["title"] if part else stem
    return None if len(title) < 3 or title in _GENERIC else title


def title_groups(sources: Iterable[str]) -> list[dict[str, Any]]:
    """Return sources that look like parts of one title, such as ElFuente1 and ElFuente2.

    Two or more names whose stems differ only in a trailing number of one or two digits. Numbering
    without a title (``clip1``, ``src02``) does not count.

    Returns
    -------
    list of dict
        ``{"title": stem, "sources": [names]}``, sorted.
    """
    named: dict[str, list[str]] = {}
    for name in sorted(sources):
        title = _title(name)
        if title:
            named.setdefault(title, []).append(name)
    return [
        {"title": title, "sources": names}
        for title, names in sorted(named.items())
        if len({source_stem(name) for name in names}) > 1
    ]


def duplicate_sources(corpus: Corpus) -> list[dict[str, Any]]:
    """Return pairs of sources that seem to be one clip under two names.

    A clip under two names is trained on and held out in one fold, which flatters that fold. The
    signs:

    rows
        Half or more of the rows that both have (same encoder, preset, quality, frame) are equal in
        all six features and VMAF.
    motion
        Half or more of the motion2 values of the source with fewer are values of the other, to
        the last digit, and three at least. The encoder does not enter motion2, which compares
        frames of the reference: one clip gives itself away whatever was encoded from it.
    frames
        In the cells that both have, a frame's nearest in the other source is about as near as the
        nearest in its own: see :func:`nearness`. So it is when one clip's frames were dealt out.
    name, src_sha256
        The names have one stem; the stamped digests are equal.

    Returns
    -------
    list of dict
        ``{"a", "b", "signs": ["rows"|"motion"|"frames"|"name"|"src_sha256", ...],
        "equal_rows": int, "common_rows": int}``, sorted by name. The two counts are 0 for a pair
        without equal rows.
    """
    equal = _equal_row_pairs(corpus)
    signs: dict[tuple[str, str], list[str]] = {}
    for sign, pairs in (
        ("rows", {p for p, (same, common) in equal.items() if same >= TWIN_SHARE * common}),
        ("motion", _equal_motion(corpus)),
        ("frames", _interleaved(corpus)),
        ("name", _pairs_sharing(pd.Series({n: source_stem(n) for n in corpus.sources()}))),
        ("src_sha256", _equal_digests(corpus)),
    ):
        for pair in pairs:
            signs.setdefault(pair, []).append(sign)
    return [
        {
            "a": a,
            "b": b,
            "signs": found,
            "equal_rows": equal.get((a, b), (0, 0))[0],
            "common_rows": equal.get((a, b), (0, 0))[1],
        }
        for (a, b), found in sorted(signs.items())
    ]


def _cell(table: pd.DataFrame) -> list[str]:
    """Return the columns that tell the encodes of a source apart."""
    return ["encoder", "preset", "quality", *(name for name in _SIZES if name in table)]


def _equal_digests(corpus: Corpus) -> set[tuple[str, str]]:
    if "src_sha256" not in corpus.table:
        return set()
    stamped = corpus.table[["src", "src_sha256"]].dropna().drop_duplicates()
    return _pairs_sharing(stamped.set_index("src")["src_sha256"])


def _equal_motion(corpus: Corpus) -> set[tuple[str, str]]:
    """Return pairs that share half of their motion2 values, and MIN_MOTION at least."""
    table = corpus.table.loc[corpus.table["motion2"] > 0, ["src", "motion2"]].drop_duplicates()
    names = corpus.sources()
    if table.empty:
        return set()
    source = table["src"].map({name: i for i, name in enumerate(names)}).to_numpy()
    shared = _shared_counts(source, table["motion2"].to_numpy(), len(names))
    values = np.bincount(source, minlength=len(names))
    enough = np.maximum(MIN_MOTION, TWIN_SHARE * np.minimum.outer(values, values))
    return set(_named(shared >= enough, names))


def _named(related: np.ndarray, names: list[str]) -> list[tuple[str, str]]:
    """Return the pairs of names for which a symmetric (n, n) table of bool holds."""
    pairs = np.argwhere(np.triu(related, k=1)).tolist()
    return [(names[i], names[j]) for i, j in pairs]


# --- equal rows and values ------------------------------------------------------------------------


def _pairs_sharing(values: pd.Series) -> set[tuple[str, str]]:
    """Return sorted pairs of index names that have one value in common."""
    names_of = values.groupby(values).groups.values()
    return {
        pair
        for names in names_of
        for pair in itertools.combinations(sorted(set(names)), 2)
    }  # fmt: skip


def _hashes(table: pd.DataFrame, columns: list[str]) -> np.ndarray:
    # -0.0 == 0.0, but they hash apart; adding 0.0 makes both the latter.
    plain = {c: table[c] + 0.0 if table[c].dtype == "float64" else table[c] for c in columns}
    return pd.util.hash_pandas_object(pd.DataFrame(plain), index=False).to_numpy()


def _equal_row_pairs(corpus: Corpus) -> dict[tuple[str, str], tuple[int, int]]:
    """Return (equal rows, common rows) of each pair of sources with an equal row."""
    table = corpus.table
    names = corpus.sources()
    source = table["src"].map({name: i for i, name in enumerate(names)}).to_numpy()
    point = [*_cell(table), "frame_index"]
    equal = _shared_counts(source, _hashes(table, [*point, *CANONICAL_6, "vmaf"]), len(names))
    first, second = np.nonzero(np.triu(equal, k=1))
    if not len(first):
        return {}
    # The rest of the corpus is left out: a full grid shares all its points with every source.
    involved = np.isin(source, np.union1d(first, second))
    common = _shared_counts(source[involved], _hashes(table[involved], point), len(names))
    return {
        (names[i], names[j]): (int(equal[i, j]), int(common[i, j]))
        for i, j in zip(first.tolist(), second.tolist(), strict=True)
    }


def _shared_counts(source: np.ndarray, keys: np.ndarray, n_sources: int) -> np.ndarray:
    """Count the keys that each two sources share: (n_sources, n_sources) int64."""
    from scipy import sparse

    codes, uniques = pd.factorize(keys)
    shared = np.bincount(codes, minlength=len(uniques))[codes] > 1
    ones = np.ones(int(shared.sum()), dtype=np.int64)
    incidence = sparse.csr_array(
        (ones, (source[shared], codes[shared])), shape=(n_sources, len(uniques))
    )
    # A key is unique within its source, since the loader drops duplicates.
    return (incidence @ incidence.T).toarray()


# --- one clip's frames dealt out to several names -------------------------------------------------


def nearness(first: list[np.ndarray], second: list[np.ndarray]) -> float:
    """Return how much farther the nearest frame of the other source is than of a frame's own.

    Parameters
    ----------
    first, second : list of ndarray of shape (n_frames, 6)
        Features of two sources in the encodes that both have, cell by
        cell; motion2 as log(1 + motion2).

    Returns
    -------
    float
        Median over cells of (median distance to the nearest frame of the other source) / (median
        distance to the nearest of its own). Distances are in standard deviations within a cell.
        About 1 or less for two halves of one clip; NaN where no cell tells.

    Notes
    -----
    On the shipped corpus, which keeps some nine frames of an encode, frames of one clip dealt out
    to two names come to 0.66 to 1.09, a clip cut in two to 0.77 to 1.55, and no two of the 24 clips
    to less than 1.17. With twenty frames of an encode the gap was wider (1.15 against 1.6).
    """
    ratios = [r for a, b in zip(first, second, strict=True) if (r := _ratio(a, b)) is not None]
    return float(np.median(ratios)) if ratios else np.nan


def _ratio(a: np.ndarray, b: np.ndarray) -> float | None:
    from scipy.spatial import KDTree

    if min(len(a), len(b)) < MIN_FRAMES:
        return None
    scale = np.sqrt((a.var(axis=0, ddof=1) + b.var(axis=0, ddof=1)) / 2) + LOG_STEP
    trees = KDTree(a / scale), KDTree(b / scale)
    own = [tree.query(tree.data, k=2)[0][:, 1] for tree in trees]
    other = [trees[0].query(trees[1].data)[0], trees[1].query(trees[0].data)[0]]
    within = float(np.median(np.concatenate(own)))
    # Frames that are all equal, as in a still picture or at the ceiling, tell nothing.
    return float(np.median(np.concatenate(other))) / within if within > 0 else None


def _interleaved(corpus: Corpus) -> set[tuple[str, str]]:
    """Return pairs of sources whose frames lie among each other in the cells that both have."""
    cells = _frames_by_cell(corpus)
    found = set()
    for a, b in _near_pairs(cells, corpus.sources()):
        shared = [cell for cell in cells.values() if a in cell and b in cell]
        picked = [
            shared[i] for i in np.unique(np.linspace(0, len(shared) - 1, MAX_CELLS, dtype=int))
        ]
        if nearness([cell[a] for cell in picked], [cell[b] for cell in picked]) <= NEAR:
            found.add((a, b))
    return found


def _frames_by_cell(corpus: Corpus) -> dict[tuple[Any, ...], dict[str, np.ndarray]]:
    """Return the frames of each cell and source: cell -> source -> (n_frames, 6)."""
    # Made-up contents differ in little more than one number: any two may lie among each other.
    table = corpus.table[~made_up(corpus.table)]
    # The first frame of a clip has motion2 0 and is no neighbour of the others.
    moving = table["motion2"] > 0
    table = table[moving | ~moving.groupby(table["src"]).transform("any")]
    features = table[list(CANONICAL_6)].assign(motion2=np.log1p(table["motion2"])).to_numpy()
    cells: dict[tuple[Any, ...], dict[str, np.ndarray]] = {}
    for (*cell, src), rows in table.groupby([*_cell(table), "src"], sort=True).indices.items():
        if len(rows) >= MIN_FRAMES:
            cells.setdefault(tuple(cell), {})[src] = features[rows[:: -(-len(rows) // MAX_FRAMES)]]
    return cells


def _near_pairs(
    cells: Mapping[tuple[Any, ...], Mapping[str, np.ndarray]], sources: list[str]
) -> list[tuple[str, str]]:
    """Return pairs with MIN_CELLS cells in common whose means are near in half of them or more.

    Few pairs pass, so that the search for neighbours stays short with hundreds of sources.
    """
    number = {name: i for i, name in enumerate(sources)}
    common, near = (np.zeros((len(sources), len(sources)), dtype=int) for _ in range(2))
    for cell in cells.values():
        at = np.ix_(*[[number[name] for name in cell]] * 2)
        mean = np.array([frames.mean(axis=0) for frames in cell.values()])
        var = np.array([frames.var(axis=0, ddof=1) for frames in cell.values()])
        spread = np.sqrt((var[:, None] + var[None]) / 2) + LOG_STEP
        apart = (np.abs(mean[:, None] - mean[None]) / spread).max(axis=-1)
        common[at] += 1
        near[at] += apart <= MAX_APART
    return _named((common >= MIN_CELLS) & (2 * near >= common), sources)


# --- groups for evaluation ------------------------------------------------------------------------


def source_groups(corpus: Corpus) -> dict[str, str]:
    """Return source -> group: twins and parts of one title share a group, others are their own.

    Hold out by these instead of by source where a source's relatives would give it away.
    """
    sources = corpus.sources()
    return merged(sources, duplicate_sources(corpus), title_groups(sources))


def merged(
    sources: list[str], pairs: list[dict[str, Any]], titles: list[dict[str, Any]]
) -> dict[str, str]:
    """Return source -> group where pairs and titles are known: see :func:`source_groups`."""
    group = {name: {name} for name in sources}
    links = [(pair["a"], pair["b"]) for pair in pairs]
    links += [pair for title in titles for pair in itertools.pairwise(title["sources"])]
    for a, b in links:
        joined = group[a] | group[b]
        group.update(dict.fromkeys(joined, joined))
    return {name: _group_name(group[name], set(sources)) for name in sources}


def _group_name(members: set[str], sources: set[str]) -> str:
    """Return what the members' names, and no others, begin with; else the first of them."""
    alike = itertools.takewhile(lambda chars: len(set(chars)) == 1, zip(*members, strict=False))
    common = "".join(chars[0] for chars in alike).rstrip("_-. ")
    # Were another source to begin so too, two groups could come out under one name.
    shared = any(name.startswith(common) for name in sources - members)
    return min(members) if shared or len(common) < 3 else common
