"""What each parameter of the notebooks may be: the one table of them.

A run judges what it was given by this table before it starts, a notebook that is run alone in its
first cell, and the help of the command line is written from it. All that is wrong is told at once.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fr_lib.corpus import TEACHERS
from fr_lib.errors import FrError, InputError, say
from fr_lib.schema import VMAF_RANGE
from fr_lib.train import DEFAULT_RECIPE, RECIPES


@dataclass(frozen=True)
class Parameter:
    """One parameter of a notebook.

    Attributes
    ----------
    default : str, int or bool
        Its type is the parameter's.
    meaning : str
    choices : tuple
        All that it may be; empty where that is no list.
    span : tuple of int, optional
        Its least and its greatest value.
    left_out : bool
        The default stands for "not given"; who gives a value must give another.
    empty : bool
        Text may be empty.
    instead : str
        What to use in a whole run, which sets this one itself.
    """

    default: Any
    meaning: str
    choices: tuple[Any, ...] = ()
    span: tuple[int, int] | None = None
    left_out: bool = False
    empty: bool = False
    instead: str = ""

    @property
    def allowed(self) -> str:
        """What it may be, in words."""
        if self.choices:
            return ", ".join(str(choice) or "'' (none)" for choice in self.choices)
        if self.span:
            return f"a whole number from {self.span[0]:,} to {self.span[1]:,}"
        return "text that names a file" + ", or ''" * self.empty

    def accepts(self, value: Any, given: bool = True) -> bool:
        """Return whether the value may be used; `given` by somebody, or as the default stands."""
        if type(value) is not type(self.default):
            return False
        if self.left_out and value == self.default:
            return not given
        if self.choices:
            return value in self.choices
        if self.span:
            return self.span[0] <= value <= self.span[1]
        return (bool(value) or self.empty) and "\0" not in value

    def read(self, text: str) -> Any:
        """Return the value that a text stands for; the text itself where it stands for none."""
        if isinstance(self.default, bool):
            return {"True": True, "False": False}.get(text, text)
        if isinstance(self.default, int) and re.fullmatch(r"[+-]?[0-9]{1,18}", text):
            return int(text)
        return text


_SWITCH = (True, False)
# The graph clips to the range of VMAF v0.6.1, so whose scores go further cannot be learned.
_LEARNED = tuple(name for name, teacher in TEACHERS.items() if teacher.range == VMAF_RANGE)
PARAMETERS: Mapping[str, Parameter] = {
    "corpus": Parameter("data/corpus.jsonl.gz", "rows to learn from", instead="use --corpus"),
    "teacher": Parameter(
        "",
        "whose scores to learn, where rows hold several; left out: their stamp's",
        choices=("", *_LEARNED),
    ),
    "run_dir": Parameter("runs/mine", "where the run keeps its files", instead="use --run-dir"),
    "recipe_name": Parameter(DEFAULT_RECIPE, "recipe of the training", choices=tuple(RECIPES)),
    "epochs": Parameter(
        0, "passes over the training rows; left out: the recipe's", span=(1, 10_000), left_out=True
    ),
    "seed": Parameter(0, "of initialisation and shuffles", span=(0, 2**31 - 1)),
    "seeds": Parameter(1, "how many seeds, counted up from seed", span=(1, 1_000)),
    "device": Parameter("auto", "where to train", choices=("auto", "cpu", "cuda")),
    "reference": Parameter("", "table of RMSE to be held against", choices=("", "v2")),
    "stop_on_fail": Parameter(
        True,
        "end with an error when the gate fails",
        choices=_SWITCH,
        instead="a whole run always carries the verdict on to the book",
    ),
    "measure": Parameter(False, "measure the chapters of evidence now", choices=_SWITCH),
    "points": Parameter(
        1_000_000, "random frames searched for the worst one", span=(1, 10_000_000)
    ),
    "logs": Parameter("", "libvmaf logs to score too, a pattern", empty=True),
}


def judge_parameters(values: Mapping[str, Any]) -> None:
    """Refuse values that a notebook cannot work with; names that are no parameter are passed over.

    Parameters
    ----------
    values : mapping
        Parameters by name; the globals of a notebook, say.

    Raises
    ------
    InputError
        One line for each wrong value.
    """
    # 02 has a function of one parameter's name, and papermill hands over no functions.
    own = {n: values[n] for n in PARAMETERS if n in values and not callable(values[n])}
    refuse([fault for name, value in own.items() if (fault := fault_of(name, value, given=False))])


def fault_of(name: str, value: Any, given: bool = True, where: str = "parameter") -> str | None:
    """Return what is wrong with the value of a parameter, or None.

    Beyond the table: a device must be there, and logs must be readable, since training comes before
    they are read.
    """
    known = PARAMETERS[name]
    if not known.accepts(value, given):
        return say(
            f"{where} {name}", f"{value!r:.60}", known.allowed, f"correct it ({known.meaning})"
        )
    try:
        if name == "device" and value == "cuda":
            from fr_lib.train import pick_device

            pick_device(value)
        elif name == "logs" and value:
            _read_all(value)
    except FrError as wrong:
        return f"{where} {name}: {wrong}"
    return None


def _read_all(pattern: str) -> None:
    # Both bring pandas, which the help of the command line need not wait for.
    from fr_lib.corpus import read_log
    from fr_lib.runs.rundir import project_path

    paths = sorted(glob.glob(str(project_path(pattern))))
    if not paths:
        raise InputError(say(f"{pattern!r:.60}", "no file matches", "libvmaf logs", "check it"))
    for path in paths:
        read_log(path)


def refuse(faults: list[str]) -> None:
    """Raise :class:`InputError` with all faults, if there are any."""
    if faults:
        raise InputError("\n".join(faults))
