"""Bad corpora by kind, each small, of one fault and with its right outcome."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fr_lib.corpus import V061
from fr_lib.schema import CANONICAL_6

FEATURES = dict(zip(CANONICAL_6, (0.97, 0.71, 0.92, 0.95, 0.96, 3.5), strict=True))
GOOD = 3
HUGE = 10**400
INF, NAN = float("inf"), float("nan")
NUMBERS = (*CANONICAL_6, "vmaf", "cq", "frame_index", "exit_status", "enc_bytes", "enc_time_ms")
LONG = "x" * 100_000


@dataclass(frozen=True)
class Case:
    """One input. `message` is in what refuses it; else `reason` drops one row; else all is kept."""

    kind: str
    name: str
    file: str
    data: bytes
    message: str | None = None
    reason: str | None = None

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}"


def frame_row(index: int, **changes: Any) -> dict[str, Any]:
    row = {
        "src": "Tennis", "encoder": "h264_nvenc", "preset": "p4", "cq": 25, "frame_index": index,
        "vmaf": 88.5, **FEATURES, "teacher": V061.name,
    }  # fmt: skip
    return {name: value for name, value in (row | changes).items() if value is not ...}


def encode_row(quality: int, **changes: Any) -> dict[str, Any]:
    row = {
        "schema_version": 3, "src": "Tennis", "encoder": "libx264", "preset": "medium",
        "crf": quality, "vmaf_score": 90.25, "exit_status": 0, "vmaf_model": V061.name,
        **{f"{n}_mean": v for n, v in FEATURES.items()}, **{f"{n}_std": 0.01 for n in FEATURES},
    }  # fmt: skip
    return {name: value for name, value in (row | changes).items() if value is not ...}


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def good_rows() -> list[dict[str, Any]]:
    return [frame_row(i) for i in range(GOOD)]


def with_bad(**changes: Any) -> bytes:
    """Return good rows and, behind them, one that differs."""
    return lines([*good_rows(), frame_row(**({"index": GOOD} | changes))])


def short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 30 else f"{text[:12]}... ({len(text):,} characters)"


# --- one value of one row -------------------------------------------------------------------------

NOT_NUMBERS = ("0.97", "", True, [0.9], {"a": 1})
NOT_TEXT = (7, 0.5, True, ["a"], {"a": "b"})
NOT_FLAGS = ("true", "", 1, 0.5, [True], {"a": True})
BEYOND = (10**25, -(10**25), 2**63, 1e300, INF, HUGE)
TEACHERS = ("vmaf_4k", 7, True, ["a"], {"a": 1}, LONG, "a\nb", "")
PRESETS = ("p9", 4, 1e300, True, [1], {"a": 1}, LONG)
ENCODERS = ("H264_NVENC", "h264_nvenc ", "libx266", "unknown", "h264_nvenc\0", LONG)
NOT_FINITE = (None, NAN, INF, -INF, HUGE)
TOO_LARGE = (1e39, -10_001, 10_000.1, 10**30)
NO_FRAME = (None, NAN, INF, 1.5, -1, 1e19, 2**53, 10**25, HUGE)


def value_cases() -> Iterator[Case]:
    """Yield faults of a single value: those of structure refuse the file, others cost the row."""

    def case(kind: str, column: str, value: Any, **outcome: str) -> Case:
        data = with_bad(**{column: value})
        return Case(kind, f"{column} {short(value)}", "rows.jsonl", data, **outcome)

    def refused(kind: str, columns: Any, values: Any, message: str) -> Iterator[Case]:
        for column in columns:
            for value in values:
                said = message.format(column=column)
                yield case(kind, column, value, message=said)

    def dropped(kind: str, columns: Any, values: Any, reason: str) -> Iterator[Case]:
        for column in columns:
            for value in values:
                yield case(kind, column, value, reason=reason)

    row = "1 row (row 4)"
    text = ("src_sha256", "ffmpeg_version", "libvmaf_version")
    sizes = ("enc_bytes", "enc_time_ms")
    yield from refused("no number", NUMBERS, NOT_NUMBERS, f"{{column}}: not a number on {row}")
    yield from refused("no name", ("src", "encoder"), NOT_TEXT, f"{{column}}: not text on {row}")
    yield from refused("no name", ("src", "encoder"), (None, ""), f"{{column}}: empty on {row}")
    yield from refused("no text", text, NOT_TEXT, f"{{column}}: not text on {row}")
    yield from refused("no flag", ("synthetic",), NOT_FLAGS, f"not true or false on {row}")
    yield from refused("beyond int64", sizes, BEYOND, f"{{column}}: beyond 64 bits on {row}")
    yield from refused("teacher", ("teacher", "vmaf_model"), TEACHERS, "teacher: a mixture: ")
    yield from refused("preset", ("preset",), PRESETS, f"[{row}]")
    yield from refused("encoder", ("encoder",), ENCODERS, f"[{row}]")
    yield from dropped("feature", CANONICAL_6, NOT_FINITE, "feature is not finite")
    yield from dropped("feature", CANONICAL_6, TOO_LARGE, "feature beyond 10000 in size")
    yield from dropped("target", ("vmaf",), NOT_FINITE, "target is not finite")
    yield from dropped("target", ("vmaf",), (-0.1, 100.1, 1e39), "target outside 0..100")
    yield from dropped("quality", ("cq",), (None, NAN), "quality is null")
    outside = "quality outside the encoder's range"
    yield from dropped("quality", ("cq",), (52, -1, 1e39, INF, HUGE), outside)
    frame = "frame_index is not a whole number from 0 to 2^53"
    yield from dropped("frame", ("frame_index",), NO_FRAME, frame)
    yield from dropped("exit status", ("exit_status",), (1, -9, 1e39, HUGE), "exit_status is not 0")


# --- one line -------------------------------------------------------------------------------------

LINES = {
    "a key twice": (b'{"src": "a", "src": "b"}', "the key src twice (line 4)"),
    "a nested key twice": (b'{"a": {"b": 1, "b": 2}}', "the key b twice (line 4)"),
    "nested 100,000 deep": (b"[" * 100_000, "nested too deeply (line 4)"),
    "an object 100,000 deep": (b'{"a":' * 100_000, "nested too deeply (line 4)"),
    "a deep column": (b'{"x":' + b"[" * 9999 + b"]" * 9999 + b"}", "nested too deeply (line 4)"),
    "half a character": (b'{"src": "\\ud800"}', "(a lone surrogate) in src (line 4)"),
    "the other half": (b'{"preset": "a\\uDFFFb"}', "(a lone surrogate) in preset (line 4)"),
    "surrogate as bytes": (b'{"src": "\xed\xa0\x80"}', "bytes that are not UTF-8 (line 4)"),
    "latin-1": (b'{"src": "\xe9t\xe9"}', "bytes that are not UTF-8 (line 4)"),
    "a list": (b"[1, 2]", "no JSON object (line 4)"),
    "a number": (b"7", "no JSON object (line 4)"),
    "null": (b"null", "no JSON object (line 4)"),
    "text": (b'"src"', "no JSON object (line 4)"),
    "words": (b"not json", "no JSON object (line 4)"),
    "half an object": (b'{"src": "a", ', "no JSON object (line 4)"),
    "a comma too many": (b'{"src": "a",}', "no JSON object (line 4)"),
    "a comma behind": (b'{"src": "a"},', "no JSON object (line 4)"),
    "a hexadecimal number": (b'{"cq": 0x19}', "no JSON object (line 4)"),
    "a key twice, once escaped": (b'{"src": "a", "s\\u0072c": "b"}', "the key src twice (line 4)"),
    "a slash as two bytes": (b'{"src": "\xc0\xaf"}', "bytes that are not UTF-8 (line 4)"),
    "a blank that JSON does not know": (b'{"src":\xc2\xa0"a"}', "no JSON object (line 4)"),
    "NUL to its end": (b"\0" * 4096, "no JSON object (line 4)"),
    "two objects": (b'{"src": "a"} {"src": "b"}', "no JSON object (line 4)"),
    "single quotes": (b"{'src': 'a'}", "no JSON object (line 4)"),
    "nan as C prints it": (b'{"vmaf": nan}', "no JSON object (line 4)"),
    "a NUL": (b"\0", "no JSON object (line 4)"),
    "a comment": (b"# made today", "no JSON object (line 4)"),
    "a mark of byte order": (b"\xef\xbb\xbf{}", "no JSON object (line 4)"),
    "a control character": (b'{"src": "a\x01b"}', "no JSON object (line 4)"),
    "a long line": (b" " * (1 << 20) + b"{}", "line 4 is longer than 1,048,576 bytes"),
    "a long name": (b'{"src": "' + b"x" * (1 << 20) + b'"}', "line 4 is longer than"),
}


def line_cases() -> Iterator[Case]:
    good = lines(good_rows())
    for name, (line, message) in LINES.items():
        yield Case("line", name, "rows.jsonl", good + line + b"\n", message)
    five = b"".join(b'{"a%d": 1, "a%d": 2}\n' % (i, i) for i in range(2000))
    yield Case("line", "a thousand reasons", "rows.jsonl", good + five, "and more; allowed")
    names = lines([frame_row(i, encoder=f"enc{i}", teacher=f"t{i}") for i in range(600)])
    yield Case("line", "a fault per row", "rows.jsonl", names, "structural faults")
    presets = lines([frame_row(i, preset=f"q{i}") for i in range(600)])
    yield Case("line", "a preset per row", "rows.jsonl", presets, "structural faults")


# --- the whole file -------------------------------------------------------------------------------


def packed(unit: bytes, times: int) -> bytes:
    """Return gzip of a unit that is repeated, made a part at a time."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0, compresslevel=9) as stream:
        for _ in range(0, times, 4096):
            stream.write(unit * 4096)
    return buffer.getvalue()


def parquet(table: pd.DataFrame | pa.Table, **options: Any) -> bytes:
    buffer = io.BytesIO()
    if isinstance(table, pd.DataFrame):
        table.to_parquet(buffer, **options)
    else:
        pq.write_table(table, buffer, **options)
    return buffer.getvalue()


def file_cases() -> Iterator[Case]:
    good = lines(good_rows())
    text = good.decode()
    csv = pd.DataFrame(good_rows()).to_csv(index=False).encode()
    kinds = {
        "UTF-16": (text.encode("utf-16"), "UTF-16 text"),
        "UTF-16 big end first": (b"\xfe\xff" + text.encode("utf-16-be"), "UTF-16 text"),
        "UTF-16 unmarked": (text.encode("utf-16-le"), "UTF-16 text without its byte order mark"),
        "UTF-32": (text.encode("utf-32"), "UTF-32 text"),
        "XML": (b"<?xml version='1.0'?>\n<VMAF/>\n", "XML or HTML"),
        "HTML": (b"<!DOCTYPE html><html>404</html>", "XML or HTML"),
        "CSV": (csv, "CSV"),
        "CSV with a mark": (b"\xef\xbb\xbf" + csv, "CSV"),
        "CSV of semicolons": (csv.replace(b",", b";"), "CSV"),
        "tabs": (csv.replace(b",", b"\t"), "CSV"),
        "an array": (json.dumps(good_rows()).encode(), "a JSON array"),
        "gzip": (gzip.compress(good), "gzip"),
        "Parquet": (parquet(pd.DataFrame(good_rows())), "Parquet"),
        "ZIP": (b"PK\x03\x04" + good, "a ZIP archive"),
        "bzip2": (b"BZh9" + good, "bzip2"),
        "xz": (b"\xfd7zXZ\0" + good, "xz"),
        "Zstandard": (b"\x28\xb5\x2f\xfd" + good, "Zstandard"),
        "Arrow": (b"ARROW1\0\0" + good, "Arrow"),
        "HDF5": (b"\x89HDF\r\n\x1a\n" + good, "HDF5"),
        "SQLite": (b"SQLite format 3\0", "SQLite"),
    }
    for name, (data, kind) in kinds.items():
        yield Case("kind", f"{name} named .jsonl", "rows.jsonl", data, f": {kind}, not ")
        if name != "gzip":
            packed_so = f"{name} in .jsonl.gz"
            inside = gzip.compress(data, mtime=0)
            yield Case("kind", packed_so, "rows.jsonl.gz", inside, f": {kind}, not ")
            yield Case(
                "kind", f"{name} named .jsonl.gz", "rows.jsonl.gz", data, f"{kind}, not gzip"
            )
        if name != "Parquet":
            yield Case("kind", f"{name} named .parquet", "rows.parquet", data, f"{kind}, not Par")
    for file in ("rows.jsonl", "rows.jsonl.gz", "rows.parquet"):
        yield Case("empty", f"no byte in {file}", file, b"",
                   "rows: none in the file" if "jsonl" in file else "empty, not ")  # fmt: skip
    inside = {
        "gzip in gzip": (gzip.compress(gzip.compress(good)), ": gzip, not lines of JSON"),
        "words behind gzip": (gzip.compress(good) + b"words", "cannot be read (Not a gzipped"),
        "another digest": (gzip.compress(good)[:-8] + bytes(8), "cannot be read (CRC check"),
        "the second member cut": (gzip.compress(good) * 2, None),
    }
    for name, (data, said) in inside.items():
        data = data if said else data[:-9]
        yield Case("packing", name, "rows.jsonl.gz", data, said or "cannot be read (Compressed")
    yield Case("packing", "CR alone", "rows.jsonl", good.replace(b"\n", b"\r"), "no JSON object")
    sizes = json.dumps(good_rows(), indent=1).encode()[1:-1]
    yield Case("line", "pretty-printed", "rows.jsonl", sizes, "no JSON object")
    zipped = gzip.compress(lines([frame_row(i, vmaf=i % 97) for i in range(400)]), mtime=0)
    whole = parquet(pd.DataFrame(good_rows()))
    for share in (1, 5, 10, 50, 90, 99):
        cut = zipped[: len(zipped) * share // 100]
        yield Case("cut short", f"gzip, {share} %", "rows.jsonl.gz", cut, "cannot be read")
        cut = whole[: len(whole) * share // 100]
        yield Case("cut short", f"Parquet, {share} %", "rows.parquet", cut, "cannot be read")
    yield Case("cut short", "JSON", "rows.jsonl", good[:-40], "1 line with no JSON object")
    million = b"\n" * (1 << 18)
    blank = "lines are blank"
    yield Case("nothing", "blank lines", "rows.jsonl", good + million, blank)
    yield Case("nothing", "blank lines, packed", "rows.jsonl.gz", packed(b"\n", 1 << 18), blank)
    one = "longer than 1,048,576 bytes"
    yield Case("nothing", "one line of blanks", "rows.jsonl.gz", packed(b" ", 1 << 22), one)
    bare = "no known column in"
    yield Case("nothing", "empty objects", "rows.jsonl.gz", packed(b"{}\n", 1 << 16), bare)
    row = json.dumps(frame_row(0)).encode() + b"\n"
    unpacks = "that unpack to"
    yield Case("nothing", "one row for ever", "rows.jsonl.gz", packed(row, 1 << 15), unpacks)
    same = pa.table({"src": pa.array(["a"] * 2_000_000).dictionary_encode()})
    yield Case("nothing", "Parquet of one row", "rows.parquet", parquet(same), "2,000,000 rows in")


# --- tables ---------------------------------------------------------------------------------------


def table_cases() -> Iterator[Case]:
    """Yield Parquet that other tools leave: types, indices, names."""
    table = pd.DataFrame([*good_rows(), frame_row(GOOD, vmaf=NAN)])
    arrow = pa.Table.from_pandas(pd.DataFrame(good_rows()), preserve_index=False)
    n = len(table)
    indices = {
        "repeated": pd.Index([0] * n),
        "as concat leaves": pd.Index([0, 1, 0, 1]),
        "dates": pd.date_range("2026-01-01", periods=n),
        "text": pd.Index(list("abca")),
        "floats with NaN": pd.Index([NAN, 1.5, NAN, 2.5]),
        "true or false": pd.Index([True, False, True, False]),
        "backwards": pd.RangeIndex(n, 0, -1),
        "named": pd.Index(list("abcd"), name="where"),
        "two levels": pd.MultiIndex.from_tuples([(0, "a"), (0, "a"), (1, "b"), (1, "b")]),
        "of time spans": pd.to_timedelta([1, 1, 2, 2], unit="s"),
        "of categories": pd.CategoricalIndex(list("aabb")),
        "intervals of time": pd.period_range("2026-01", periods=n, freq="M").astype(str),
    }
    for name, index in indices.items():
        data = parquet(table.set_index(index))
        yield Case("index", name, "rows.parquet", data, reason="target is not finite")
    for column in ("src", "frame_index", ["src", "frame_index"], ["encoder", "cq", "frame_index"]):
        data = parquet(table.set_index(column))
        yield Case("index", f"of {column}", "rows.parquet", data, reason="target is not finite")

    def other(name: str, column: str, values: pa.Array, message: str | None) -> Case:
        rest = arrow.drop_columns([column]) if column in arrow.column_names else arrow
        data = parquet(rest.append_column(column, values))
        return Case("column type", f"{column} as {name}", "rows.parquet", data, message)

    rows = "on 3 rows (row 1, 2, 3)"
    numbers = {
        "decimals": pa.array([1, 2, 3], pa.decimal128(5)),
        "dates": pa.array([1, 2, 3], pa.date32()),
        "instants": pa.array([1, 2, 3], pa.timestamp("us")),
        "far instants": pa.array([2**62, 1, 2], pa.timestamp("ms")),
        "durations": pa.array([1, 2, 3], pa.duration("s")),
        "bytes": pa.array([b"1", b"2", b"3"]),
        "text": pa.array(["1", "2", "3"]),
        "flags": pa.array([True, False, True]),
        "lists": pa.array([[1.0], [2.0], []]),
        "structs": pa.array([{"a": 1}, {"a": 2}, {"a": 3}]),
        "maps": pa.array([[("a", 1)], [("b", 2)], []], pa.map_(pa.string(), pa.int64())),
        "text in a dictionary": pa.array(["1", "2", "1"]).dictionary_encode(),
    }
    for column in ("vif_scale1", "enc_bytes", "frame_index", "cq", "vmaf"):
        for name, values in numbers.items():
            yield other(name, column, values, f"{column}: not a number {rows}")
    yield other("unsigned 64 bits", "enc_bytes", pa.array([2**63, 1, 2], pa.uint64()), "beyond 64")
    no_text = {k: v for k, v in numbers.items() if "text" not in k} | {
        "numbers": pa.array([1, 2, 3])
    }
    for column in ("src", "encoder", "src_sha256"):
        for name, values in no_text.items():
            yield other(name, column, values, f"{column}: not text {rows}")
        yield other(
            "nothing", column, pa.nulls(3), None if column == "src_sha256" else "empty on 3"
        )
        yield other("bytes that are no text", column, broken_text(), "cannot be read")
    for name, values in (no_text | {"text": numbers["text"]}).items():
        if name != "flags":
            yield other(name, "synthetic", values, f"synthetic: not true or false {rows}")
    twice = arrow.append_column("src", pa.array(["a", "b", "c"]))
    yield Case("column type", "src twice", "rows.parquet", parquet(twice), "column src twice")
    for name, kind in (("float16", pa.float16()), ("float32", pa.float32())):
        yield other(name, "adm2", pa.array(np.ones(3, np.float16), kind), None)
    yield other("int8", "cq", pa.array([20, 21, 22], pa.int8()), None)
    yield other("large text", "src", pa.array(["a", "b", "c"], pa.large_string()), None)
    yield other("a dictionary", "src", pa.array(["a", "b", "a"]).dictionary_encode(), None)
    yield other("a dictionary", "src_sha256", pa.array(["a", "b", None]).dictionary_encode(), None)


def broken_text() -> pa.Array:
    raw = pa.array([b"\xff\xfe", b"\xed\xa0\x80", b"a"])
    return pa.Array.from_buffers(pa.string(), 3, raw.buffers())


# --- the shape ------------------------------------------------------------------------------------


def shape_cases() -> Iterator[Case]:
    mixed = lines([frame_row(0), encode_row(23)])
    yield Case("shape", "both in one file", "rows.jsonl", mixed, "row shape: per frame on 1 row")
    for column in ("src", "encoder", "frame_index", *CANONICAL_6):
        rows = [{k: v for k, v in row.items() if k != column} for row in good_rows()]
        yield Case("shape", f"no {column}", "rows.jsonl", lines(rows), f"missing {column}")
    for pair in (("cq", "crf"), ("vmaf", "vmaf_score")):
        rows = [frame_row(i, **{pair[0]: ...}) for i in range(GOOD)]
        said = f"missing {pair[0]} or {pair[1]}"
        yield Case("shape", f"no {pair[0]}", "rows.jsonl", lines(rows), said)
        data = with_bad(**{pair[1]: 26.5})
        said = f"{pair[0]} and {pair[1]}: differ on 1 row (row 4)"
        yield Case("shape", f"{pair[0]} and {pair[1]}", "rows.jsonl", data, said)
    for name in CANONICAL_6:
        rows = [encode_row(20 + i, **{f"{name}_mean": ...}) for i in range(GOOD)]
        said = f"missing {name}_mean"
        yield Case("shape", f"no {name}_mean", "rows.jsonl", lines(rows), said)
        for value in NOT_NUMBERS:
            rows = [encode_row(20), encode_row(21, **{f"{name}_mean": value})]
            said = f"{name}_mean: not a number on 1 row (row 2)"
            what = f"{name}_mean {value!r}"
            yield Case("no number", what, "rows.jsonl", lines(rows), said)
    for version in (2, 4, None, NAN, -3, 1e300, HUGE, "3", [3]):
        rows = [encode_row(20), encode_row(21, schema_version=version)]
        what = f"schema_version {short(version)}"
        yield Case("shape", what, "rows.jsonl", lines(rows), "schema_version: ")
    again = lines([*good_rows(), frame_row(1, vmaf=3.0)])
    duplicate = "duplicate key (the first row is kept)"
    yield Case("shape", "a row twice", "rows.jsonl", again, reason=duplicate)


def sound_cases() -> Iterator[Case]:
    """Yield files that look odd and from which nothing may be lost."""
    good = lines(good_rows())
    yield Case("sound", "a byte order mark", "rows.jsonl", b"\xef\xbb\xbf" + good)
    yield Case("sound", "CRLF", "rows.jsonl", good.replace(b"\n", b"\r\n"))
    yield Case("sound", "blank lines between", "rows.jsonl", good.replace(b"\n", b"\n\n \n"))
    yield Case("sound", "no end of line", "rows.jsonl", good.rstrip())
    yield Case("sound", "blanks in front", "rows.jsonl", b"  \n\t" + good)
    halves = good.partition(b"\n")
    two = gzip.compress(halves[0] + b"\n") + gzip.compress(halves[2])
    yield Case("sound", "gzip in two members", "rows.jsonl.gz", two)
    yield Case("sound", "NUL behind gzip", "rows.jsonl.gz", gzip.compress(good) + bytes(512))
    table = pa.Table.from_pylist(good_rows())
    for packing in ("none", "gzip", "brotli", "zstd", "lz4"):
        data = parquet(table, compression=packing, row_group_size=1)
        yield Case("sound", f"Parquet, {packing}", "rows.parquet", data)
    views = table.set_column(0, "src", pa.array(["a", "b", "c"], pa.string_view()))
    yield Case("sound", "views of text", "rows.parquet", parquet(views))
    lines_in = [frame_row(i, src="a\u2028b\u0085c") for i in range(GOOD)]
    raw = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in lines_in).encode()
    yield Case("sound", "other ends of line inside a name", "rows.jsonl", raw)
    unknown = [frame_row(i, thumbnail=[[i]] * 9, note={"a": [{}]}) for i in range(GOOD)]
    yield Case("sound", "columns nobody asked for", "rows.jsonl", lines(unknown))
    pair = b'{"note": "\\ud83d\\ude00", ' + good[1:]
    yield Case("sound", "a whole pair of surrogates", "rows.jsonl", pair)
    half = b'{"note": "\\ud83d", ' + good[1:]
    yield Case("sound", "half a character where nobody asked", "rows.jsonl", half)
    names = [frame_row(0, src=s) for s in ("r\u00e9sum\u00e9 \U0001f600", "\u5f71", "a\u202eb")]
    yield Case("sound", "names in any script", "rows.jsonl", lines(names))


# Kinds of many columns times many values, of which the tests of every day take some.
PRODUCTS = ("column type", "feature", "kind", "no number", "no text", "no name", "teacher")


def some(cases: list[Case], of_each: int = 7) -> list[Case]:
    """Return `of_each` cases of each product, spread evenly, and all cases of other kinds."""
    kept = []
    for kind in dict.fromkeys(case.kind for case in cases):
        own = [case for case in cases if case.kind == kind]
        kept += own[:: -(-len(own) // of_each)] if kind in PRODUCTS else own
    return kept


def corpus_cases() -> list[Case]:
    return [
        *value_cases(), *line_cases(), *file_cases(), *table_cases(), *shape_cases(),
        *sound_cases(),
    ]  # fmt: skip
