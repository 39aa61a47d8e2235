"""The names and numbers that the weights depend on: features, vocabularies, codec block, adapters.

Everything here is data with a few total functions around it. The order of a vocabulary is baked
into the weights trained with it (index = one-hot column), so from v3 on it is append-only
(ADR-0323): a new name makes a new version, and a model keeps the version that its sidecar names.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fr_lib.errors import InputError, say

MODEL_ID = "fr_regressor_v3"
VMAF_RANGE = (0.0, 100.0)

CANONICAL_6 = ("adm2", "vif_scale0", "vif_scale1", "vif_scale2", "vif_scale3", "motion2")

# What libvmaf puts before a feature's name where its fixed-point extractor worked it out.
FIXED_POINT = "integer_"

# v2 as it shipped: twelve slots, in this order. The published documents describe v3 as
# "append-only over a 13-slot v2"; neither the length nor the order of the v2 that shipped agrees.
ENCODER_VOCAB_V2 = (
    "libx264",
    "libx265",
    "libsvtav1",
    "libvvenc",
    "libvpx-vp9",
    "h264_nvenc",
    "hevc_nvenc",
    "av1_nvenc",
    "h264_qsv",
    "hevc_qsv",
    "av1_qsv",
    "unknown",
)
ENCODER_VOCAB_V3 = (
    "libx264",
    "libaom-av1",
    "libx265",
    "h264_nvenc",
    "hevc_nvenc",
    "av1_nvenc",
    "h264_amf",
    "hevc_amf",
    "av1_amf",
    "h264_qsv",
    "hevc_qsv",
    "av1_qsv",
    "libvvenc",
    "libsvtav1",
    "h264_videotoolbox",
    "hevc_videotoolbox",
)
# v2 stays the authoritative vocabulary; promoting v3 is a decision of its own (docs/adr/0001).
ENCODER_VOCAB_VERSION = 2
ENCODER_VOCAB_V3_VERSION = 3
# What a sidecar may name. A version that weights were trained with never changes: a new encoder is
# a further line, the newest version and one name more (docs/guides/new-encoder.md).
VOCABULARIES: Mapping[int, tuple[str, ...]] = {
    ENCODER_VOCAB_V3_VERSION: ENCODER_VOCAB_V3,
}
NEWEST_VOCAB_VERSION = max(VOCABULARIES)
# What corpora are read with and models are trained with.
NEWEST_VOCAB = VOCABULARIES[NEWEST_VOCAB_VERSION]

VMAF_BIN = 10  # points; width of a range of VMAF in tables and figures

N_FEATURES = len(CANONICAL_6)
N_CODEC_BLOCK = len(NEWEST_VOCAB) + 2
MAX_PRESET_ORDINAL = 9.0
DIV63 = 63.0

# How preset and quality become columns of the codec block (ADR-1558).
ORDINAL, CONSTANT = PRESET_NORMS = "ordinal", "constant"
BY_63, MINMAX = CRF_NORMS = "div63", "minmax"

_X26X_PRESETS = (
    "ultrafast",
    "superfast",
    "veryfast",
    "faster",
    "fast",
    "medium",
    "slow",
    "slower",
    "veryslow",
    "placebo",
)
_X26X = {name: float(i) for i, name in enumerate(_X26X_PRESETS)}
_NVENC = dict(zip((f"p{i}" for i in range(1, 8)), (0.0, 2.0, 3.0, 5.0, 6.0, 7.0, 9.0), strict=True))
_QSV = {name: float(i) for i, name in enumerate(_X26X_PRESETS) if 2 <= i <= 8}
_VVENC = {"faster": 1.0, "fast": 3.0, "medium": 5.0, "slow": 7.0, "slower": 8.0}
_AMF = {"speed": 2.0, "balanced": 5.0, "quality": 8.0}
_VIDEOTOOLBOX = {"default": 5.0}


def _inverted(top: int) -> dict[str, float]:
    """Presets ``0`` (slowest) .. ``top`` (fastest) as ordinals 9 .. 0."""
    return {str(p): MAX_PRESET_ORDINAL * (top - p) / top for p in range(top + 1)}


@dataclass(frozen=True)
class Adapter:
    """How one encoder is driven, and what its numbers mean.

    Attributes
    ----------
    encoder : str
        FFmpeg encoder name, a slot of ``NEWEST_VOCAB``.
    standard : str
        Coding standard of the bitstream ("h264", "hevc", "av1", "vvc"); the gate counts these as
        codec families.
    quality_flags : tuple of str
        FFmpeg options that each take the quality value.
    lo, hi : int
        Allowed quality values, both ends included.
    higher_is_better : bool
        Direction of the quality value.
    presets : Mapping[str, float]
        Preset name to ordinal, 0 (fastest) .. 9 (slowest).
    default_preset : str
    preset_flag : str or None
        FFmpeg option that takes the preset; None where the encoder has none.
    extra : tuple of str
        Further options that constant-quality mode needs.
    pix_fmt : str or None
        Pixel format the encoder insists on; None where it takes the reference's.
    hardware : str or None
        Vendor whose hardware it needs; None for software.
    """

    encoder: str
    standard: str
    quality_flags: tuple[str, ...]
    lo: int
    hi: int
    presets: Mapping[str, float]
    default_preset: str
    preset_flag: str | None = "-preset"
    higher_is_better: bool = False
    extra: tuple[str, ...] = field(default=())
    pix_fmt: str | None = None
    hardware: str | None = None

    def command(self, quality: float, preset: str) -> list[str]:
        """Return the FFmpeg output options for one encode.

        Raises
        ------
        InputError
            If `quality` is outside ``lo..hi`` or `preset` is not one of `presets`.
        """
        self.check_quality(quality)
        self.preset_ordinal(preset)
        args = ["-c:v", self.encoder, *self.extra]
        if self.pix_fmt:
            args += ["-pix_fmt", self.pix_fmt]
        if self.preset_flag:
            args += [self.preset_flag, preset]
        for flag in self.quality_flags:
            args += [flag, f"{quality:g}"]
        return args

    def check_quality(self, quality: float) -> None:
        """Raise :class:`InputError` unless ``lo <= quality <= hi``."""
        if not self.lo <= quality <= self.hi:
            raise InputError(
                say(
                    f"{self.encoder} {self.quality_flags[0]}",
                    f"quality {quality:g}",
                    f"{self.lo}..{self.hi}",
                    "choose a value in that range",
                )
            )

    def preset_ordinal(self, preset: str) -> float:
        """Return the ordinal of `preset`, 0 (fastest) .. 9 (slowest); InputError if unknown."""
        if preset not in self.presets:
            raise InputError(
                say(
                    f"{self.encoder} preset",
                    repr(preset),
                    " ".join(self.presets),
                    "name one of these",
                )
            )
        return self.presets[preset]


def _adapters() -> dict[str, Adapter]:
    rows = [
        Adapter("libx264", "h264", ("-crf",), 0, 51, _X26X, "medium"),
        Adapter(
            "libx265",
            "hevc",
            ("-crf",),
            0,
            51,
            _X26X,
            "medium",
            extra=("-x265-params", "log-level=error"),
        ),
        Adapter(
            "libaom-av1",
            "av1",
            ("-crf",),
            0,
            63,
            _inverted(8),
            "6",
            preset_flag="-cpu-used",
            extra=("-b:v", "0"),
        ),
        Adapter("libsvtav1", "av1", ("-crf",), 0, 63, _inverted(13), "8"),
        # vvenc takes 10-bit input only; the decode goes back to the reference's format.
        Adapter("libvvenc", "vvc", ("-qp",), 0, 63, _VVENC, "faster", pix_fmt="yuv420p10le"),
    ]
    for standard in ("h264", "hevc", "av1"):
        rows += [
            Adapter(
                f"{standard}_nvenc",
                standard,
                ("-cq",),
                0,
                51,
                _NVENC,
                "p4",
                extra=("-rc", "vbr", "-b:v", "0"),
                hardware="NVIDIA",
            ),
            Adapter(
                f"{standard}_amf",
                standard,
                ("-qp_i", "-qp_p"),
                0,
                51,
                _AMF,
                "balanced",
                preset_flag="-quality",
                extra=("-rc", "cqp"),
                hardware="AMD",
            ),
            Adapter(
                f"{standard}_qsv",
                standard,
                ("-global_quality",),
                1,
                51,
                _QSV,
                "medium",
                hardware="Intel",
            ),
        ]
    for standard in ("h264", "hevc"):
        rows.append(
            Adapter(
                f"{standard}_videotoolbox",
                standard,
                ("-q:v",),
                1,
                100,
                _VIDEOTOOLBOX,
                "default",
                preset_flag=None,
                higher_is_better=True,
                hardware="Apple",
            )
        )
    by_name = {a.encoder: a for a in rows}
    return {name: by_name[name] for name in NEWEST_VOCAB}


ADAPTERS: Mapping[str, Adapter] = _adapters()


def encoder_index(encoder: str, vocab: Sequence[str] = NEWEST_VOCAB) -> int:
    """Return the one-hot column of `encoder`.

    Raises
    ------
    InputError
        If `encoder` is not in `vocab`; the message names the nearest slot. There is no default
        slot: a row is never trained or scored under a codec that did not make it (ADR-0235).

    Examples
    --------
    >>> encoder_index("libx265")
    2
    """
    if encoder in vocab:
        return list(vocab).index(encoder)
    near = difflib.get_close_matches(str(encoder).lower(), vocab, n=1, cutoff=0.0)[0]
    raise InputError(
        say(
            "encoder",
            f"{encoder!r} is not in the vocabulary",
            ", ".join(vocab),
            f"did you mean {near!r}? No default slot is used",
        )
    )


def adapter(encoder: str) -> Adapter:
    """Return the :class:`Adapter` of `encoder`; InputError names the nearest slot."""
    return ADAPTERS[NEWEST_VOCAB[encoder_index(encoder)]]


def codec_families(encoders: Iterable[str]) -> list[str]:
    """Return the coding standards of encoders, sorted.

    Examples
    --------
    >>> codec_families(["libsvtav1", "libx264", "libaom-av1"])
    ['av1', 'h264']
    """
    return sorted({ADAPTERS[encoder].standard for encoder in encoders})


def vmaf_bins(vmaf: np.ndarray, width: int = VMAF_BIN) -> np.ndarray:
    """Return the lower end of the range that each score lies in: (N,) int; the last includes 100.

    Examples
    --------
    >>> vmaf_bins([9.9, 10.0, 100.0]).tolist()
    [0, 10, 90]
    """
    return (np.minimum(vmaf, VMAF_RANGE[1] - 1e-9) // width * width).astype(int)


def trained_mask(rows_per_slot: Mapping[str, int]) -> np.ndarray:
    """Return which slots have training rows: float32 of 0 and 1, one per slot in order."""
    return np.array([rows_per_slot.get(e, 0) > 0 for e in NEWEST_VOCAB], dtype=np.float32)


@dataclass(frozen=True)
class BlockNorm:
    """How preset and quality become the last two columns of the codec block (ADR-1558 keys).

    Attributes
    ----------
    preset_norm : {"ordinal", "constant"}
    preset_value : float or None
        The constant, 0..1, when `preset_norm` is "constant".
    crf_norm : {"div63", "minmax"}
    crf_min, crf_max : float or None
        Bounds of "minmax", from training rows only.
    """

    preset_norm: str = ORDINAL
    preset_value: float | None = None
    crf_norm: str = BY_63
    crf_min: float | None = None
    crf_max: float | None = None

    def __post_init__(self) -> None:
        if self.preset_norm not in PRESET_NORMS:
            raise InputError(
                say(
                    "codec_preset_norm",
                    repr(self.preset_norm),
                    ", ".join(PRESET_NORMS),
                    "choose one",
                )
            )
        if self.crf_norm not in CRF_NORMS:
            raise InputError(
                say("codec_crf_norm", repr(self.crf_norm), ", ".join(CRF_NORMS), "choose one")
            )
        if self.preset_norm == CONSTANT and self.preset_value is None:
            raise InputError(say("codec_preset_value", "absent", "0..1", "give it with 'constant'"))
        if self.crf_norm == MINMAX and (self.crf_min is None or self.crf_max is None):
            raise InputError(
                say("codec_crf_min / codec_crf_max", "absent", "numbers", "give both with 'minmax'")
            )

    def sidecar_keys(self) -> dict[str, object]:
        """Return the ADR-1558 keys for the sidecar."""
        keys: dict[str, object] = {
            "codec_preset_norm": self.preset_norm,
            "codec_crf_norm": self.crf_norm,
        }
        if self.preset_norm == CONSTANT:
            keys["codec_preset_value"] = self.preset_value
        if self.crf_norm == MINMAX:
            keys |= {"codec_crf_min": self.crf_min, "codec_crf_max": self.crf_max}
        return keys

    @classmethod
    def from_sidecar(cls, card: Mapping[str, object]) -> BlockNorm:
        """Read the ADR-1558 keys back; InputError if they are incomplete."""
        return cls(
            preset_norm=str(card.get("codec_preset_norm", ORDINAL)),
            preset_value=card.get("codec_preset_value"),  # type: ignore[arg-type]
            crf_norm=str(card.get("codec_crf_norm", BY_63)),
            crf_min=card.get("codec_crf_min"),  # type: ignore[arg-type]
            crf_max=card.get("codec_crf_max"),  # type: ignore[arg-type]
        )

    def preset(self, ordinals: np.ndarray) -> np.ndarray:
        """Map ordinals 0..9, shape (N,), to ``preset_norm`` 0..1, (N,) float32."""
        if self.preset_norm == CONSTANT:
            return np.full(len(ordinals), self.preset_value, dtype=np.float32)
        return (np.asarray(ordinals, dtype=np.float64) / MAX_PRESET_ORDINAL).astype(np.float32)

    def crf(self, quality: np.ndarray) -> np.ndarray:
        """Map quality values, shape (N,), to ``crf_norm``, (N,) float32.

        "div63" divides by 63 whatever the encoder's range is, as hosts of ADR-1558 do.
        """
        q = np.asarray(quality, dtype=np.float64)
        if self.crf_norm == MINMAX:
            span = float(self.crf_max) - float(self.crf_min)  # type: ignore[arg-type]
            return ((q - float(self.crf_min)) / (span or 1.0)).astype(np.float32)  # type: ignore[arg-type]
        return (q / DIV63).astype(np.float32)


def codec_block_layout(vocab: Sequence[str] = NEWEST_VOCAB) -> list[str]:
    """Return the column names of the codec block, in order."""
    return [*(f"encoder_onehot[{name}]" for name in vocab), "preset_norm", "crf_norm"]


def codec_block(
    encoders: Sequence[str],
    preset_ordinals: np.ndarray,
    quality: np.ndarray,
    norm: BlockNorm | None = None,
    vocab: Sequence[str] = NEWEST_VOCAB,
) -> np.ndarray:
    """Build the codec block: one-hot encoder, ``preset_norm``, ``crf_norm``.

    Parameters
    ----------
    encoders : sequence of str, length N
        FFmpeg encoder names.
    preset_ordinals : (N,) array_like
        0 (fastest) .. 9 (slowest).
    quality : (N,) array_like
        The encoder's own quality value (crf, qp, cq, ...).
    norm : BlockNorm, optional
        Default: ordinal preset, crf / 63.
    vocab : sequence of str
        The newest, that of a model's sidecar, or ``ENCODER_VOCAB_V2``. v2 has a slot named
        "unknown"; an encoder that v2 does not name belongs there by v2's own definition.

    Returns
    -------
    (N, len(vocab) + 2) float32

    Raises
    ------
    InputError
        For an encoder outside a vocabulary that has no "unknown" slot.

    Examples
    --------
    >>> codec_block(["libaom-av1"], [9.0], [63.0])[0, [1, -2, -1]].tolist()
    [1.0, 1.0, 1.0]
    """
    norm = norm or BlockNorm()
    block = np.zeros((len(encoders), len(vocab) + 2), dtype=np.float32)
    column = {
        name: encoder_index("unknown" if "unknown" in vocab and name not in vocab else name, vocab)
        for name in set(encoders)
    }
    block[np.arange(len(encoders)), [column[name] for name in encoders]] = 1.0
    block[:, -2] = norm.preset(np.asarray(preset_ordinals))
    block[:, -1] = norm.crf(np.asarray(quality))
    return block
