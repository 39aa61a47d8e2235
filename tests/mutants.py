"""Corpora and logs that a seed spoils: the same seed gives the same bytes."""

from __future__ import annotations

import gzip
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hostile import FEATURES, encode_row, frame_row, parquet
from hostile_logs import CSV_LINES, XML_FRAMES, log, xml

from fr_lib.corpus import audit_corpus, load_corpus, read_log, vmaf_from_features, write_table
from fr_lib.errors import FrError

VALUES = (
    *(None, True, False, 0, -1, 1, 1.5, -0.0, 25, 99.9, 100.1, 1e39, 1e308, -1e19),
    *(2**53, 2**63, 2**64, 10**25, 10**400, float("nan"), float("inf"), float("-inf")),
    *("", " ", "0.97", "nan", "p4", "medium", "libx264", "h264_nvenc", "vmaf_v0.6.1"),
    *("\0", "\ud800", "\U0001f600", "a\nb", "<b>", "$x$", "x" * 500),
    *([], [1], [[[]]], ["a"], {}, {"a": 1}, {"": None}),
)
SLOTS = ("libx264", "h264_nvenc", "libsvtav1", "hevc_qsv")
OTHER_NAMES = (
    *("vmaf_score", "crf", "cq", "vmaf", "teacher", "vmaf_model", "exit_status", "synthetic"),
    *("enc_bytes", "enc_time_ms", "src_sha256", "ffmpeg_version", "schema_version"),
    *("adm2_mean", "frame_index", "__index_level_0__", "", "\ud800", "note"),
)
TOKENS = (b"{", b"}", b"[", b"]", b'"', b",", b":", b"\n", b"\\", b"\0", b"\xff", b"nan", b"1e999",
          b"\\ud800", b"null", b"\r", b"\xef\xbb\xbf", b'"src":1,', b"-", b"9" * 500)  # fmt: skip
Mutation = Callable[[random.Random, Any], Any]


# --- rows -----------------------------------------------------------------------------------------


def base_rows(rng: random.Random) -> list[dict[str, Any]]:
    """Return a sound corpus of one shape: three sources, a few rows each."""
    if rng.random() < 0.3:
        rows = [encode_row(20 + i, vmaf_score=90.0 - i) for i in range(12)]
    else:
        rows = [frame_row(i, vmaf=90.0 - i) for i in range(12)]
    for i, row in enumerate(rows):
        row["src"] = ("Tennis", "Fox", "Crowd")[i % 3]
        row |= {"enc_bytes": 100 + i, "src_sha256": "ab" * 32, "synthetic": False}
    return rows


def swap_value(rng: random.Random, rows: list[dict[str, Any]]) -> None:
    name = rng.choice(list(rows[0]))
    value = rng.choice(VALUES)
    for row in rng.sample(rows, rng.choice((1, 1, 2, len(rows)))):
        row[name] = value


def drop_key(rng: random.Random, rows: list[dict[str, Any]]) -> None:
    name = rng.choice(list(rows[0]))
    for row in rng.sample(rows, rng.choice((1, len(rows)))):
        row.pop(name, None)


def add_key(rng: random.Random, rows: list[dict[str, Any]]) -> None:
    name, value = rng.choice(OTHER_NAMES), rng.choice(VALUES)
    for row in rng.sample(rows, rng.choice((1, len(rows)))):
        row[name] = value


def rename_key(rng: random.Random, rows: list[dict[str, Any]]) -> None:
    name, other = rng.choice(list(rows[0])), rng.choice(OTHER_NAMES)
    for row in rng.sample(rows, rng.choice((1, len(rows)))):
        if name in row:
            row[other] = row.pop(name)


def change_encoder(rng: random.Random, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        row["encoder"] = rng.choice(SLOTS)


def repeat_rows(rng: random.Random, rows: list[dict[str, Any]]) -> None:
    rows += rng.choices(rows, k=rng.randint(1, 5))


def shuffle_keys(rng: random.Random, rows: list[dict[str, Any]]) -> None:
    for i, row in enumerate(rows):
        names = list(row)
        rng.shuffle(names)
        rows[i] = {name: row[name] for name in names}


ROW_MUTATIONS = (
    swap_value,
    drop_key,
    add_key,
    rename_key,
    change_encoder,
    repeat_rows,
    shuffle_keys,
)


# --- bytes ----------------------------------------------------------------------------------------


def flip_bits(rng: random.Random, data: bytes) -> bytes:
    spoilt = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 40))):
        spoilt[rng.randrange(len(spoilt))] ^= 1 << rng.randrange(8)
    return bytes(spoilt)


def cut_off(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data))]


def take_out(rng: random.Random, data: bytes) -> bytes:
    first = rng.randrange(len(data))
    return data[:first] + data[first + rng.choice((1, 4, 64)) :]


def put_in(rng: random.Random, data: bytes) -> bytes:
    where = rng.randrange(len(data))
    return data[:where] + rng.choice(TOKENS) * rng.choice((1, 1, 3)) + data[where:]


def move_part(rng: random.Random, data: bytes) -> bytes:
    a, b, c = sorted(rng.randrange(len(data)) for _ in range(3))
    return data[:a] + data[b:c] + data[a:b] + data[c:]


def zero_part(rng: random.Random, data: bytes) -> bytes:
    first = rng.randrange(len(data))
    part = data[first : first + rng.choice((1, 8, 64))]
    return data[:first] + bytes(len(part)) + data[first + len(part) :]


BYTE_MUTATIONS = (flip_bits, cut_off, take_out, put_in, move_part, zero_part)


def spoilt_bytes(rng: random.Random, data: bytes) -> bytes:
    for _ in range(rng.choice((1, 1, 2))):
        data = rng.choice(BYTE_MUTATIONS)(rng, data) or b"\n"
    return data


# --- corpora --------------------------------------------------------------------------------------


def as_parquet(rng: random.Random, rows: list[dict[str, Any]]) -> bytes:
    """Write rows with an index and types of some kind; the plain ones where Arrow has no such."""
    # Arrow has no half characters, so none can be in a file.
    text = json.dumps(rows, ensure_ascii=False).encode(errors="replace").decode()
    table = pd.DataFrame(json.loads(text))
    n = len(table)
    indices = (
        None, None, [0] * n, list("ab" * n)[:n], pd.date_range("2026-01-01", periods=n),
        pd.RangeIndex(n, 0, -1), [i // 2 for i in range(n)],
        pd.MultiIndex.from_arrays([[0] * n, list(range(n))]),
    )  # fmt: skip
    index = rng.choice(indices)
    if index is not None:
        table.index = pd.Index(index)
    name = rng.choice(list(table))
    kind = rng.choice(("float32", "float16", "int64", "str", "category", "bool", "Int32", "object"))
    for change in (lambda t: t.astype({name: kind}), lambda t: t.set_index(name), lambda t: t):
        try:
            return parquet(change(table) if rng.random() < 0.5 else table)
        except Exception:
            continue
    return parquet(table.astype(str))


def corpus_mutant(seed: int) -> tuple[str, bytes]:
    """Return suffix and bytes of a sound corpus that was spoilt."""
    rng = random.Random(seed)
    rows = base_rows(rng)
    in_rows = rng.random() < 0.75
    if in_rows:
        for _ in range(rng.choice((1, 1, 2, 3))):
            rng.choice(ROW_MUTATIONS)(rng, rows)
    suffix = rng.choice((".jsonl", ".jsonl", ".jsonl.gz", ".parquet"))
    if suffix == ".parquet":
        data = as_parquet(rng, rows)
    else:
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    # Before gzip, so that what comes out of it is spoilt and not the packing alone.
    if suffix == ".jsonl.gz" and not in_rows and rng.random() < 0.5:
        data, in_rows = spoilt_bytes(rng, data), True
    if suffix == ".jsonl.gz":
        data = gzip.compress(data, mtime=0)
    return suffix, data if in_rows else spoilt_bytes(rng, data)


def said_by(error: FrError, most: int) -> str:
    assert error.exit_code == 2
    assert 0 < len(str(error)) < most
    return "refused"


def judge_corpus(mutant: tuple[str, bytes], folder: Path, *, audit: bool = False) -> str:
    """Load it; anything but words of our own or a corpus that is sound throughout is raised."""
    suffix, data = mutant
    path = folder / f"rows{suffix}"
    path.write_bytes(data)
    try:
        corpus = load_corpus(path)
    except FrError as refused:
        return said_by(refused, 10_000)
    finally:
        assert os.listdir(folder) == [path.name]
        path.unlink()
    dropped = sum(d["count"] for d in corpus.dropped)
    assert len(corpus.table) + dropped == corpus.n_rows_read
    assert np.isfinite(corpus.features()).all()
    assert np.isfinite(corpus.codec_block()).all()
    assert corpus.table["vmaf"].between(0, 100).all()
    assert corpus.shape == "encode" or (corpus.table["frame_index"] >= 0).all()
    if audit:
        json.dumps(audit_corpus(corpus), allow_nan=False)
        write_table(corpus.table, folder / "kept.parquet")
        (folder / "kept.parquet").unlink()
    return "rows dropped" if dropped else "whole"


# --- logs -----------------------------------------------------------------------------------------


def log_mutant(seed: int) -> bytes:
    """Return the bytes of a sound log that was spoilt."""
    rng = random.Random(seed)
    whole = log()
    if rng.random() < 0.5:
        forms = (json.dumps(whole).encode(), xml(*XML_FRAMES), "\n".join(CSV_LINES).encode())
        return spoilt_bytes(rng, rng.choice((*forms, gzip.compress(forms[1], mtime=0))))
    frame = rng.choice(whole["frames"])
    places = (whole, frame, frame["metrics"])
    for _ in range(rng.choice((1, 1, 2))):
        place = rng.choice(places)
        name = rng.choice([*place, *FEATURES, "vmaf_4k"])
        if rng.random() < 0.25:
            place.pop(name, None)
        else:
            place[name] = rng.choice(VALUES)
    return json.dumps(whole).encode()


def judge_log(data: bytes, folder: Path) -> str:
    """Read it; anything but words of our own or finite features is raised."""
    path = folder / "log.json"
    path.write_bytes(data)
    try:
        found = read_log(path)
    except FrError as refused:
        return said_by(refused, 1000)
    finally:
        assert os.listdir(folder) == [path.name]
        path.unlink()
    assert np.isfinite(found.features).all()
    assert np.isfinite(vmaf_from_features(found.features)).all()
    for scores in found.scores.values():
        assert len(scores) == len(found.features)
    return "whole"
