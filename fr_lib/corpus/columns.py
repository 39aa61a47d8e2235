"""One column at a time: names, numbers, presets; each fault with the rows that have it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from fr_lib import schema
from fr_lib.corpus.presets import native_preset, unknown_preset
from fr_lib.corpus.strict import shown
from fr_lib.errors import counted, say
from fr_lib.schema import NEWEST_VOCAB

# A file where every row has a fault of its own is not listed to its end.
MOST_FAULTS = 20
_INT64 = 2.0**63


def rows_of(mask: pd.Series) -> str:
    """Say how many rows `mask` marks, and the numbers of the first five, counted from 1."""
    where = np.flatnonzero(mask.to_numpy()) + 1
    first = ", ".join(map(str, where[:5]))
    return f"{counted(len(where), 'row')} (row {first})"


def names(raw: pd.DataFrame, name: str, faults: list[str]) -> pd.Series:
    """Return a text column without gaps; a missing column, already reported, comes back empty."""
    if name not in raw:
        return pd.Series("", index=raw.index, dtype="str")
    column = raw[name].astype(object)
    text = column.map(lambda value: isinstance(value, str)).astype(bool)
    column = column.where(text, "")
    empty = (column == "") & (text | raw[name].isna())
    if empty.any():
        faults.append(say(name, f"empty on {rows_of(empty)}", "a name", "name it on every row"))
    if not (text | empty).all():
        faults.append(say(name, f"not text on {rows_of(~text & ~empty)}", "text", "quote the name"))
    return column.astype("str")


def _to_float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return np.inf


def numbers(raw: pd.DataFrame, name: str, faults: list[str]) -> pd.Series:
    """Return a column as float64, null as NaN; text is a fault, even where it spells a number."""
    if name not in raw:
        return pd.Series(np.nan, index=raw.index)
    column = raw[name]
    if pd.api.types.is_numeric_dtype(column.dtype) and column.dtype != "bool":
        return pd.Series(column.to_numpy(dtype=np.float64, na_value=np.nan), index=raw.index)
    column = column.astype(object).where(column.notna(), np.nan)
    numeric = column.map(lambda v: isinstance(v, (int, float)) and not isinstance(v, bool))
    numeric = numeric.astype(bool)
    if not numeric.all():
        faults.append(
            say(name, f"not a number on {rows_of(~numeric)}", "numbers", "mend its maker")
        )
    return column.where(numeric, np.nan).map(_to_float).astype(np.float64)


def either(raw: pd.DataFrame, pair: tuple[str, str], faults: list[str]) -> pd.Series:
    """Return the number that goes by either of two names, which must agree where both are given."""
    first, second = (numbers(raw, name, faults) for name in pair)
    differ = first.notna() & second.notna() & (first != second)
    if differ.any():
        faults.append(
            say(
                f"{pair[0]} and {pair[1]}",
                f"differ on {rows_of(differ)}",
                "one of the two, or equal values",
                "remove the wrong column",
            )
        )
    return first.fillna(second)


def _preset_name(value: Any) -> str:
    """Return a preset as text; JSON and Parquet may hold the numeric ones of AV1 as 8 or 8.0."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def presets(
    raw: pd.DataFrame, encoder: pd.Series, faults: list[str], notes: list[str]
) -> pd.Series:
    """Return the presets as text: each encoder's own, with notes on all that were not written so.

    Where a row has none it gets the encoder's default; a word of vmaf-tune is read as the preset
    that it ran.
    """
    given = raw.get("preset", pd.Series(None, index=raw.index, dtype=object))
    if given.dtype != "str":
        given = given.astype(object).map(_preset_name, na_action="ignore")
    missing = given.isna() | (given == "")
    known = encoder.isin(NEWEST_VOCAB)
    default = encoder.map({e: a.default_preset for e, a in schema.ADAPTERS.items()})
    for name, count in encoder[missing & known].value_counts(sort=False).items():
        preset = schema.ADAPTERS[name].default_preset
        notes.append(
            f"{name}: {counted(count, 'row')} without a preset; its default {preset!r} was taken."
        )
    preset = given.where(~missing, default).fillna("").astype("str")
    pairs = pd.DataFrame({"encoder": encoder, "preset": preset})[known].drop_duplicates()
    unknown = []
    for name, word in list(pairs.itertuples(index=False)):
        meant = native_preset(name, word)
        if meant not in schema.ADAPTERS[name].presets:
            unknown.append((name, word))
        elif meant != word:
            rows = (encoder == name) & (given == word)
            preset = preset.where(~rows, meant)
            found = f"{counted(int(rows.sum()), 'row')} with preset {word!r}"
            notes.append(f"{name}: {found}; as in vmaf-tune, {meant!r} was taken.")
    for name, word in unknown[:MOST_FAULTS]:
        rows = rows_of((encoder == name) & (preset == word))
        faults.append(f"{preset_fault(name, word)} [{rows}]")
    return preset


def preset_fault(encoder: str, word: str) -> str:
    """Return the message of a preset that an encoder has not."""
    allowed = " ".join(schema.ADAPTERS[encoder].presets)
    found = unknown_preset(encoder, shown(word))
    return say(f"{encoder} preset", found, allowed, "name one of these")


def optional(raw: pd.DataFrame, name: str, kind: str, faults: list[str]) -> pd.Series:
    """Return a column that may be there, as it is; what is not of its kind is a fault.

    Parameters
    ----------
    raw : DataFrame
    name : str
    kind : {"numbers", "text", "true or false"}
    faults : list of str
        Gets a line that names the rows.
    """
    column = raw[name]
    if kind == "numbers":
        as_float = numbers(raw, name, faults)
        beyond = as_float.abs() >= _INT64
        if beyond.any():
            faults.append(say(name, f"beyond 64 bits on {rows_of(beyond)}", kind, "mend its maker"))
        return column if pd.api.types.is_numeric_dtype(column.dtype) else as_float
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object)
    if column.dtype != ("str" if kind == "text" else "bool"):
        allowed = str if kind == "text" else (bool, np.bool_)
        wrong = column.notna() & ~column.map(lambda value: isinstance(value, allowed)).astype(bool)
        if wrong.any():
            faults.append(say(name, f"not {kind} on {rows_of(wrong)}", kind, "mend its maker"))
    return column
