"""The arms: networks of one recipe that differ in nothing but what they see.

An arm's columns are places in the input table of a corpus, which has features, newest codec block
and the block of v2 side by side. Two arms ship, joined in one graph: the codec-aware one answers
for slots with training rows, the codec-blind one for all others.
"""

from __future__ import annotations

from dataclasses import dataclass

from fr_lib.schema import ENCODER_VOCAB_V2, N_CODEC_BLOCK, N_FEATURES, NEWEST_VOCAB


@dataclass(frozen=True)
class Arm:
    """One arm, and how it is shown.

    Attributes
    ----------
    name : str
        As files of a run have it.
    label : str
        In tables and legends.
    columns : tuple of int
        Columns of the input table that it sees; the features come first.
    colour, marker : str
        In figures, as matplotlib has them.
    """

    name: str
    label: str
    columns: tuple[int, ...]
    colour: str
    marker: str

    @property
    def blind(self) -> bool:
        """Whether it sees no codec block."""
        return len(self.columns) == N_FEATURES

    @property
    def ships(self) -> bool:
        """Whether it is the codec-aware network that ships, by whose folds a run is judged."""
        return self.name == SHIPPED_ARM

    @property
    def sight(self) -> str:
        """What it is called beside its name."""
        return "codec-blind" if self.blind else "codec-aware"


_FEATURES = tuple(range(N_FEATURES))
_NEWEST = tuple(range(N_FEATURES, N_FEATURES + N_CODEC_BLOCK))
_V2 = tuple(range(_NEWEST[-1] + 1, _NEWEST[-1] + 1 + len(ENCODER_VOCAB_V2) + 2))
BLIND_ARM, SHIPPED_ARM = "v1", "v3"
# The arm that ships is the darkest.
ARMS = {
    arm.name: arm
    for arm in (
        Arm(BLIND_ARM, f"{BLIND_ARM}: six features", _FEATURES, "#888888", "o"),
        Arm("v2", f"v2: + {len(ENCODER_VOCAB_V2)}-slot block", _FEATURES + _V2, "#DDAA33", "s"),
        Arm(
            SHIPPED_ARM,
            f"{SHIPPED_ARM}: + {len(NEWEST_VOCAB)}-slot block",
            _FEATURES + _NEWEST,
            "#004488",
            "D",
        ),
    )
}
