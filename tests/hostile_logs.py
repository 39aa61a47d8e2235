"""Bad logs by kind, each with what must be said of it."""

from __future__ import annotations

import bz2
import gzip
import json
from collections.abc import Iterator
from typing import Any

from hostile import FEATURES, Case, short

from fr_lib.schema import CANONICAL_6

FRAMES = 3
# As it stands in the file, and as the message names it.
NO_FEATURE = {
    "null": "None", '"1.0"': "1.0", '""': "''", "true": "True", "[]": "[]", '{"a": 1}': "{'a': 1}",
    "nan": "nan", "-nan": "nan", "inf": "inf", "-inf": "-inf", "1e39": "1e+39", "1e400": "inf",
    "9" * 30: "9" * 30, "9" * 5000: "inf", "-10000.01": "-10000.01", "10000.01": "10000.01",
}  # fmt: skip


def log(**more: Any) -> dict[str, Any]:
    metrics = {f"integer_{name}": value for name, value in FEATURES.items()}
    frames = [{"frameNum": i, "metrics": metrics | {"vmaf": 90.0}} for i in range(FRAMES)]
    return {"version": "3.0.0", "fps": 25.0, "frames": frames} | more


def feature_cases() -> Iterator[Case]:
    for name in CANONICAL_6:
        for text, found in NO_FEATURE.items():
            whole = log()
            whole["frames"][1]["metrics"] = whole["frames"][1]["metrics"] | {
                f"integer_{name}": "here"
            }
            data = json.dumps(whole).replace('"here"', text).encode()
            said = f"log.json frame 1: {name} is {found}; allowed: "
            yield Case("feature", f"{name} {short(text)}", "log.json", data, said)
        for gone in ("no such", None):
            whole = log()
            metrics = dict(whole["frames"][2]["metrics"])
            metrics.pop(f"integer_{name}")
            whole["frames"][2]["metrics"] = metrics if gone else {}
            said = f"frame 2: no {name if gone else CANONICAL_6[0]}"
            what = f"no {name}" if gone else f"no metrics, {name}"
            data = json.dumps(whole | {"of": name}).encode()
            yield Case("feature", what, "log.json", data, said)


def shape_cases() -> Iterator[Case]:
    listless, bare = "JSON without a list of frames (it has ", "without any of the six features"
    texts = {
        "an empty object": ("{}", listless + "nothing)"), "a list": ("[]", "a JSON array, no log"),
        "a word": ("nan", "other text, no log"), "a number": ("7", "other text, no log"),
        "text": ('"a"', "other text, no log"), "frames: text": ('{"frames": "all"}', listless),
        "frames: none": ('{"frames": []}', "libvmaf JSON with no frames"),
        "frames: an object": ('{"frames": {}}', listless + "frames)"),
        "frames: null": ('{"frames": null}', listless), "vmaf: a number": ('{"vmaf": 3}', listless),
    }  # fmt: skip
    for name, (text, said) in texts.items():
        yield Case("shape", name, "log.json", text.encode(), f"log.json: {said}")
    for frame in ("3", "null", "[]", '"a"', '{"metrics": []}', '{"metrics": null}', "{}"):
        data = f'{{"frames": [{frame}]}}'.encode()
        yield Case("shape", f"a frame of {frame}", "log.json", data, f"{bare} (it has nothing)")
    good = json.dumps(log())
    deep = "brackets nested too deeply"
    yield Case("shape", "nested 100,000 deep", "log.json", b'{"a":' * 100_000, deep)
    far = f'{{"frames": {"[" * 9999}{"]" * 9999}}}'.encode()
    yield Case("shape", "frames nested 10,000 deep", "log.json", far, deep)
    twice = good.replace('"frameNum": 1', '"metrics": {}, "frameNum": 1')
    yield Case("shape", "metrics twice", "log.json", twice.encode(), "the key metrics twice")
    twice = good.replace('"vmaf"', '"integer_adm2"', 1)
    yield Case("shape", "a feature twice", "log.json", twice.encode(), "key integer_adm2 twice")
    quotes = '{"a": nan, "b": "' + '\\"' * 200_000
    yield Case("shape", "a text without end", "log.json", quotes.encode(), "broken JSON")
    for share in (1, 10, 50, 90, 99):
        cut = good[: len(good) * share // 100].encode()
        yield Case("cut short", f"{share} %", "log.json", cut, "broken JSON")


def xml(*frames: str, root: str = "VMAF") -> bytes:
    return f"<{root}><frames>{''.join(frames)}</frames></{root}>".encode()


XML_FRAMES = [
    f'<frame frameNum="{i}" {" ".join(f"""{n}="{v}" """ for n, v in FEATURES.items())}/>'
    for i in range(FRAMES)
]
CSV_LINES = [f"Frame,{','.join(FEATURES)},"] + [
    f"{i},{','.join(map(str, FEATURES.values()))}," for i in range(FRAMES)
]


def number_cases() -> Iterator[Case]:
    for number in ("1", "-1", "0.5", '"2"', "null", "true", "[]", "1e300", "NaN"):
        whole = log()
        whole["frames"][2]["frameNum"] = "here"
        data = json.dumps(whole).replace('"here"', number).encode()
        yield Case("number", number, "log.json", data, "log.json frame 2: its number is ")
    data = xml(XML_FRAMES[1], XML_FRAMES[0])
    yield Case("number", "XML that goes back", "log.xml", data, "log.xml frame 1: its number is 0")


def xml_cases() -> Iterator[Case]:
    whole = xml(*XML_FRAMES)
    entity = b'<!DOCTYPE VMAF [<!ENTITY a "0">]>'
    cases = {
        "an entity": (
            entity + whole.replace(b"0.97", b"&a;"),
            "XML with a document type",
        ),
        "an entity nobody knows": (whole.replace(b"0.97", b"&a;"), "broken XML (undefined entity"),
        "a document type": (b"<!DOCTYPE VMAF>" + whole, "XML with a document type"),
        "HTML": (b"<!doctype html><p>log<br>", "log.xml: HTML, no log; allowed"),
        "HTML without a type": (b"<html><body>log</body></html>", "log.xml: HTML, no log; allowed"),
        "a picture": (b'<svg xmlns="s"/>', "XML of something else (its root is svg)"),
        "no features": (xml('<frame frameNum="0" psnr="3"/>'), "without any of the six features"),
        "no frames": (xml(), "libvmaf XML with no frames"),
        "an attribute twice": (whole.replace(b"adm2", b"vif_scale0", 1), "duplicate attribute"),
        "a feature that is text": (whole.replace(b"0.97", b"fast", 1), "frame 0: adm2 is fast"),
        "a feature that is a gap": (whole.replace(b"0.97", b"", 1), "frame 0: adm2 is None"),
        "a digit from elsewhere": (whole.replace(b"0.97", b"1_0", 1), "frame 0: adm2 is 1_0"),
        "nested 100,000 deep": (b"<VMAF>" + b"<a>" * 100_000, "broken XML (no element found"),
    }
    for name, (data, said) in cases.items():
        yield Case("XML", name, "log.xml", data, said)
    for share in (1, 10, 50, 90, 99):
        cut = whole[: len(whole) * share // 100]
        yield Case("XML", f"cut short at {share} %", "log.xml", cut, "log.xml: broken XML (")


def csv_cases() -> Iterator[Case]:
    whole = "\n".join(CSV_LINES) + "\n"
    cases = {
        "no features": ("Frame,vmaf,psnr,\n0,97.4,1.0,\n", "without any of the six features"),
        "no lines": (CSV_LINES[0] + "\n", "libvmaf CSV with no frames"),
        "something else": ("city,lat,lon\nUlm,48,9\n", "something else (its columns are city, lat"),
        "a column twice": (whole.replace("motion2", "adm2"), "the column adm2 twice"),
        "a short line": (whole + "3,0.9,\n", "line 5 has 3 fields, the first 8"),
        "a long line": (whole + "3" * 8 + "," * 9 + "\n", "line 5 has 10 fields, the first 8"),
        "a quote without end": (whole + '3,"', "broken CSV (unexpected end of data"),
        "a feature that is text": (whole.replace("0.97", "fast"), "frame 0: adm2 is fast"),
        "a frame without number": (whole + CSV_LINES[1][1:] + "\n", "frame 3: its number is None"),
        "cut in its last line": (whole[:-3], "line 4 has 7 fields, the first 8"),
    }
    for name, (text, said) in cases.items():
        yield Case("CSV", name, "log.csv", text.encode(), said)


def gzip_cases() -> Iterator[Case]:
    packed = gzip.compress(json.dumps(log()).encode(), mtime=0)
    wrong = packed[:-8] + bytes(8)
    zeros = gzip.compress(b'{"frames": [' + b" " * (8 << 20), mtime=0)
    cases = {
        "cut short": (packed[:-20], "broken gzip (Compressed file ended"),
        "a wrong sum": (wrong, "broken gzip (CRC check failed"),
        "bytes that are none": (packed[:10] + b"none" * 20, "broken gzip (Error -3"),
        "UTF-16 inside": (gzip.compress("{}".encode("utf-16"), mtime=0), "UTF-16 text, no log"),
        "nothing inside": (gzip.compress(b"", mtime=0), "empty, no log"),
        "blanks without end": (zeros, "bytes unpack to"),
    }
    for name, (data, said) in cases.items():
        yield Case("gzip", name, "log.json.gz", data, said)


def kind_cases() -> Iterator[Case]:
    good = json.dumps(log())
    lines = "Frame,vmaf,integer_adm2\n0,97.4,1.0\n"
    kinds = {
        "UTF-16": (good.encode("utf-16"), "UTF-16 text"),
        "UTF-16 big end first": (b"\xfe\xff" + good.encode("utf-16-be"), "UTF-16 text"),
        "UTF-16 unmarked": (good.encode("utf-16-le"), "UTF-16 text without its byte order mark"),
        "UTF-32": (good.encode("utf-32"), "UTF-32 text"),
        "sub": (b"{1}{5}frame: 0|vmaf: 97.4\n", "subtitles (log_fmt=sub)"),
        "bzip2": (bz2.compress(good.encode()), "bzip2"),
        "ZIP": (b"PK\x03\x04....", "a ZIP archive"),
        "Parquet": (b"PAR1....PAR1", "Parquet"),
        "FFmpeg's own log": (b"[Parsed_libvmaf_0] VMAF score: 97.4\n", "other text"),
        "an array": (f"[{good}]".encode(), "a JSON array"),
        "words": (b"VMAF score: 97.4\n", "other text"),
        "nothing": (b"", "empty"),
        "blanks": (b" \n" * 1000, "blank"),
        "a picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "binary"),
        "zeros": (bytes(64), "binary"),
        "bytes that are no text": (b"\xc3\x28{}", "other text"),
    }
    for name, (data, kind) in kinds.items():
        said = f"log.json: {kind}, no log; allowed: a log of libvmaf (JSON, XML or CSV) or of "
        yield Case("kind", name, "log.json", data, said)
    tabs = lines.replace(",", "\t").encode()
    yield Case("kind", "tabs", "log.json", tabs, "log.json: CSV of something else (its columns are")


def sound_log_cases() -> Iterator[Case]:
    good = json.dumps(log())
    yield Case("sound", "as it is", "log.json", good.encode())
    yield Case("sound", "a byte order mark", "log.json", b"\xef\xbb\xbf" + good.encode())
    for word in ("nan", "-nan", "inf", "-inf", "NaN", "Infinity", "1e400", "9" * 5000, "null"):
        odd = good.replace('"fps": 25.0', f'"fps": {word}, "psnr_y": {word}')
        yield Case("sound", f"{short(word)} beside", "log.json", odd.encode())
    odd = good.replace("3.0.0", 'nan, \\"inf\\" and \\\\')
    yield Case("sound", "words in a text", "log.json", odd.replace("25.0", "nan").encode())
    half = good.replace("3.0.0", "\\ud800")
    yield Case("sound", "half a character beside", "log.json", half.encode())
    for name, data in {"XML": xml(*XML_FRAMES), "CSV": "\r\n".join(CSV_LINES).encode()}.items():
        yield Case("sound", name, "log.json", data)
        yield Case("sound", f"{name} behind a mark", "log.json", b"\xef\xbb\xbf" + data)
        yield Case("sound", f"{name}, packed", "log.json", gzip.compress(data, mtime=0))
    parts = [gzip.compress(half.encode(), mtime=0) for half in (good[:200], good[200:])]
    yield Case("sound", "two members of gzip", "log.json", b"".join(parts))
    yield Case("sound", "the Python library's XML", "log.xml", xml(*XML_FRAMES, root="result"))


def log_cases() -> list[Case]:
    other = (*number_cases(), *xml_cases(), *csv_cases(), *gzip_cases())
    return [*feature_cases(), *shape_cases(), *kind_cases(), *other, *sound_log_cases()]
