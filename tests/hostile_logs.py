"""Bad logs by kind, each with what must be said of it."""

from __future__ import annotations

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
    texts = {
        "an empty object": "{}", "a list": "[]", "a word": "nan", "a number": "7", "text": '"a"',
        "frames: none": '{"frames": []}', "frames: an object": '{"frames": {}}',
        "frames: null": '{"frames": null}', "frames: text": '{"frames": "all"}',
    }  # fmt: skip
    for name, text in texts.items():
        yield Case("shape", name, "log.json", text.encode(), ": no frames; allowed: a JSON log of")
    for frame in ("3", "null", "[]", '"a"', '{"metrics": []}', '{"metrics": null}', "{}"):
        data = f'{{"frames": [{frame}]}}'.encode()
        yield Case("shape", f"a frame of {frame}", "log.json", data, "frame 0: no adm2; allowed")
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


def kind_cases() -> Iterator[Case]:
    good = json.dumps(log())
    lines = "Frame,vmaf,integer_adm2\n0,97.4,1.0\n"
    kinds = {
        "UTF-16": (good.encode("utf-16"), "UTF-16 text"),
        "UTF-16 big end first": (b"\xfe\xff" + good.encode("utf-16-be"), "UTF-16 text"),
        "UTF-16 unmarked": (good.encode("utf-16-le"), "UTF-16 text without its byte order mark"),
        "UTF-32": (good.encode("utf-32"), "UTF-32 text"),
        "XML": (b'<VMAF version="3.0.0">\n</VMAF>\n', "XML or HTML"),
        "XML behind a mark": (b"\xef\xbb\xbf<VMAF/>", "XML or HTML"),
        "CSV": (lines.encode(), "CSV"),
        "tabs": (lines.replace(",", "\t").encode(), "CSV"),
        "sub": (b"{1}{5}frame: 0|vmaf: 97.4\n", "JSON"),
        "gzip": (gzip.compress(good.encode(), mtime=0), "gzip"),
        "ZIP": (b"PK\x03\x04....", "a ZIP archive"),
        "Parquet": (b"PAR1....PAR1", "Parquet"),
        "FFmpeg's own log": (b"[Parsed_libvmaf_0] VMAF score: 97.4\n", "other text"),
        "an array": (f"[{good}]".encode(), "no frames"),
        "words": (b"VMAF score: 97.4\n", "other text"),
        "nothing": (b"", "empty"),
        "blanks": (b" \n" * 1000, "blank"),
        "a picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "binary"),
        "zeros": (bytes(64), "binary"),
        "bytes that are no text": (b"\xc3\x28{}", "other text"),
    }
    for name, (data, kind) in kinds.items():
        said = {"JSON": "broken JSON", "no frames": "log.json: no frames"}.get(kind)
        said = said or f"log.json: {kind}, not JSON; allowed: a JSON log of libvmaf"
        yield Case("kind", name, "log.json", data, said)


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


def log_cases() -> list[Case]:
    return [*feature_cases(), *shape_cases(), *kind_cases(), *sound_log_cases()]
