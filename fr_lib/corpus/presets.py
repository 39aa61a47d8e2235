"""The preset words of vmaf-tune, one list for all encoders, as the presets that it ran.

As tools/vmaf-tune/src/vmaftune/codec_adapters/ maps them: _nvenc_common.py, _amf_common.py,
_videotoolbox_common.py, libaom.py, svtav1.py and vvenc.py of github.com/lusoris/vmaf (commits
b1f73e39, 237a7de0, 066f1d3c, 2f559d06, 21186cdd, 28b7aef4), and the same in its successor
github.com/VMAFx/vmafx (18c4d45f, 7b1a68e0, 18c4d45f, 297e5e37, 18c4d45f, 966d076e). For libx264,
libx265 and QSV its words are FFmpeg's own.
"""

from __future__ import annotations

from collections.abc import Mapping

from fr_lib.schema import ADAPTERS

_NVENC = {
    "ultrafast": "p1", "superfast": "p1", "veryfast": "p1", "faster": "p2", "fast": "p3",
    "medium": "p4", "slow": "p5", "slower": "p6", "slowest": "p7", "placebo": "p7",
}  # fmt: skip
_AMF = {
    **dict.fromkeys(("ultrafast", "superfast", "veryfast", "faster", "fast"), "speed"),
    "medium": "balanced",
    **dict.fromkeys(("slow", "slower", "slowest", "placebo"), "quality"),
}
# -realtime 0, which is FFmpeg's default; its faster words are -realtime 1.
_VIDEOTOOLBOX = dict.fromkeys(("medium", "slow", "slower", "veryslow"), "default")
_AOM = {
    "placebo": "0", "slowest": "1", "slower": "2", "slow": "3", "medium": "4", "fast": "5",
    "faster": "6", "veryfast": "7", "superfast": "8",
}  # fmt: skip
_SVT = {
    "placebo": "0", "slowest": "1", "slower": "3", "slow": "5", "medium": "7", "fast": "9",
    "faster": "11", "veryfast": "13",
}  # fmt: skip
_VVENC = {
    **dict.fromkeys(("ultrafast", "superfast", "veryfast"), "faster"),
    **dict.fromkeys(("slowest", "placebo"), "slower"),
}

# Encoder: word of vmaf-tune to preset, where it is another one.
VMAF_TUNE: Mapping[str, Mapping[str, str]] = {
    **{f"{standard}_nvenc": _NVENC for standard in ("h264", "hevc", "av1")},
    **{f"{standard}_amf": _AMF for standard in ("h264", "hevc", "av1")},
    **{f"{standard}_videotoolbox": _VIDEOTOOLBOX for standard in ("h264", "hevc")},
    "libaom-av1": _AOM,
    "libsvtav1": _SVT,
    "libvvenc": _VVENC,
}
# Words that it has and no preset here stands for: what they ran.
_REALTIME = dict.fromkeys(
    ("ultrafast", "superfast", "veryfast", "faster", "fast"), "-realtime 1, which is no preset"
)
NOT_MAPPED: Mapping[str, Mapping[str, str]] = {
    "h264_videotoolbox": _REALTIME,
    "hevc_videotoolbox": _REALTIME,
    "libaom-av1": {"ultrafast": "-cpu-used 9, which FFmpeg's libaom-av1 does not take"},
}


def native_preset(encoder: str, word: str) -> str:
    """Return the preset that a word stands for; a preset of the encoder's own, or what it is.

    Examples
    --------
    >>> native_preset("h264_nvenc", "medium"), native_preset("h264_nvenc", "p6")
    ('p4', 'p6')
    """
    if word in ADAPTERS[encoder].presets:
        return word
    return VMAF_TUNE.get(encoder, {}).get(word, word)


def unknown_preset(encoder: str, word: str) -> str:
    """Return what to call a word that stands for none of an encoder's presets."""
    ran = NOT_MAPPED.get(encoder, {}).get(word)
    return f"{word!r}, in vmaf-tune {ran}" if ran else repr(word)
