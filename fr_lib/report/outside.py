"""Sentences of the chapter on what lies outside the corpus."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

from fr_lib.arms import SHIPPED_ARM
from fr_lib.errors import text


def own_networks_sentence(facts: Mapping[str, Any], outside: Mapping[str, Any]) -> str:
    """Return whether what was measured are the networks of a run, and their own error if not.

    A processor of another kind rounds another way, and thousands of steps later that shows.

    Parameters
    ----------
    facts : mapping
        The evidence ``beyond``.
    outside : mapping
        ``outside.json`` of the run.
    """
    measured = facts["recipes"][facts["shipped"]]["arms"][SHIPPED_ARM]["stress"]["rmse"]
    own = outside["arms"][SHIPPED_ARM]["stress"]["rmse"]
    if text(own, ".6g") == text(measured, ".6g"):
        return "What was measured are the networks of this run."
    return (
        "What was measured are networks of this recipe, trained on these rows elsewhere, where the "
        "processor rounded another way; those of this run, which the gate asks, have an RMSE of "
        f"{text(own, '.3f')}."
    )


def logs_sentence(facts: Mapping[str, Any]) -> str:
    """Return what the logs of other origins say of the shipped network, in one sentence."""
    logs = facts["recipes"][facts["shipped"]]["logs"]
    if not logs:
        return "No logs were given when this was measured."
    errors = [log["rmse"][SHIPPED_ARM] for log in logs]
    errors = [error for error in errors if error is not None]
    if not errors:
        return "No answer of the network that ships is finite."
    return (
        f"Over {len(logs)} logs the network that ships errs by {median(errors):.3f} VMAF points in "
        f"the median and by {max(errors):.3f} at worst (RMSE of a log)."
    )
