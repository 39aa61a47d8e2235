"""Errors that a user may meet.

Every message reads ``where: what was found; what is allowed; what to do`` so that it can be shown
as it is, without a traceback. The command line turns an :class:`FrError` into its exit code.
"""

from __future__ import annotations

import math

# What a message allows where the operating system has refused a path.
PATHS = "paths that can be read and written, and room on the disk"


class FrError(Exception):
    """Base of all errors raised on purpose; ends a command with exit code 2."""

    exit_code = 2


class InputError(FrError):
    """A file, a row or an argument given by the user cannot be used."""


class CorpusError(InputError):
    """A corpus has rows or columns that no corpus may have; lists every issue at once."""


class EncodeError(FrError):
    """An encoder cannot run here, or an encode does not match its reference."""


class TrainingError(FrError):
    """A training could not be finished on this machine: it ran out of memory, say."""


class ArtefactError(FrError):
    """A file of a run, a model or a registry is missing, stale or altered."""


class GateFailed(FrError):
    """The ship gate did not pass; the audit trail says which clause."""

    exit_code = 1


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun, for messages and the card.

    Examples
    --------
    >>> counted(1, "row"), counted(2000, "row"), counted(0, "family", "families")
    ('1 row', '2,000 rows', '0 families')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


# In place of a figure: nothing was measured, or what was is NaN or infinite.
NOT_MEASURED, NOT_FINITE = "not measured", "not finite"


def text(value: float | None, form: str, missing: str = NOT_MEASURED) -> str:
    """Return a figure in a format, or words for one that is None or not finite.

    Examples
    --------
    >>> text(0.123, ".1f"), text(None, ".1f"), text(float("nan"), ".1f", NOT_FINITE)
    ('0.1', 'not measured', 'not finite')
    """
    return missing if value is None or not math.isfinite(value) else format(value, form)


def printable(text: str, keep: str = "") -> str:
    r"""Return text for a terminal, which would obey the control characters of a name.

    Parameters
    ----------
    text : str
    keep : str
        Characters that stay though they cannot be seen, such as the line end between two messages.

    Examples
    --------
    >>> printable("a\x1b[31m\nb")
    'a\\x1b[31m\\nb'
    """
    return "".join(
        c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text
    )


def say(where: str, found: str, allowed: str, todo: str) -> str:
    """Return the one-line message that every error of this package carries.

    Examples
    --------
    >>> say("row 3", "crf is 70", "0..63", "fix the row")
    'row 3: crf is 70; allowed: 0..63; fix the row'
    """
    return f"{where}: {found}; allowed: {allowed}; {todo}"
