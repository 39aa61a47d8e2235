"""The commands of the guide for hardware rows, built from the adapters."""

from __future__ import annotations

from fr_lib.encode.ffmpeg import CONTAINER
from fr_lib.schema import ADAPTERS, Adapter

REFERENCE = (
    "ffmpeg -i clip.mkv -map 0:v:0 -vf format=yuv420p,setparams=range=limited "
    "-fps_mode passthrough -f yuv4mpegpipe clip.y4m"
)
# By number and not by time: encoders and containers move time stamps.
COUNTED = "format=yuv420p,setparams=range=limited,settb=1/25,setpts=N"
SCORE = (
    "ffmpeg -i {encode} -i {reference} -lavfi "
    f'"[0:v]{COUNTED}[e];[1:v]{COUNTED}[r];'
    '[e][r]libvmaf=model=version=vmaf_v0.6.1:log_fmt=json:log_path={log}" -f null -'
)
# Where in an encoder's range its quality values lie, the worst at the end.
LADDER = (0.2, 0.35, 0.5, 0.65, 0.8, 1.0)


def qualities(unit: Adapter) -> list[int]:
    """Return values that go down to low scores."""
    span = unit.hi - unit.lo
    if unit.higher_is_better:
        return [round(unit.hi - span * share) for share in LADDER]
    return [round(unit.lo + span * share) for share in LADDER]


def encode(unit: Adapter, quality: str = "$q", reference: str = "clip.y4m") -> str:
    """Return the command of one encode."""
    words = unit.command(30, unit.default_preset)
    pairs = zip(["", *words], words, strict=False)
    options = " ".join(quality if flag in unit.quality_flags else word for flag, word in pairs)
    stem = reference.rpartition(".")[0]
    name = f"{stem}_{unit.encoder}_{unit.default_preset}_{quality}{CONTAINER}"
    return f"ffmpeg -i {reference} -an {options} {name}"


def section(unit: Adapter) -> str:
    """Return what the guide says of one slot."""
    values = " ".join(map(str, qualities(unit)))
    presets = ", ".join(f"`{name}`" for name in unit.presets)
    better = "higher" if unit.higher_is_better else "lower"
    flags = " and ".join(f"`{flag}`" for flag in unit.quality_flags)
    return (
        f"### {unit.encoder} ({unit.hardware})\n\n"
        f"{flags} {unit.lo} to {unit.hi}, {better} is better; presets {presets}.\n\n"
        f"```bash\nfor q in {values}; do\n  {encode(unit)}\ndone\n```\n"
    )


def score_loop() -> str:
    """Return the command that scores all encodes of a clip."""
    command = SCORE.format(encode='"$f"', reference="clip.y4m", log=f"${{f%{CONTAINER}}}.json")
    return f"for f in clip_*{CONTAINER}; do\n  {command}\ndone"


def sections() -> str:
    """Return all slots that need hardware, in the order of the vocabulary."""
    return "\n".join(section(unit) for unit in ADAPTERS.values() if unit.hardware)
