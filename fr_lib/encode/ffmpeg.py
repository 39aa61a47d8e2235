"""FFmpeg as a program: which one, its version, what it can encode, why it failed."""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path

from fr_lib.errors import EncodeError, say
from fr_lib.schema import adapter

# MP4 for every encoder: libvvenc in Matroska starts late and loses frames when decoded.
CONTAINER = ".mp4"
# What each software encoder says about its version, in its log or in its own bitstream.
_VERSION_PATTERNS = (
    rb"x265 \(build \d+\) - ([^:\s]+)",
    rb"SVT-AV1 Encoder Lib (\S+)",
    rb"libvvenc version: (\S+)",
    rb"libaom-av1 @ \w+\] (v\S+)",
    rb"x264 - (core \d+(?: r\d+ \w+)?)",
)


def default_ffmpeg() -> str:
    """Return the FFmpeg that travels in the imageio-ffmpeg wheel."""
    import imageio_ffmpeg

    return imageio_ffmpeg.get_ffmpeg_exe()


def call_ffmpeg(ffmpeg: str, *args: str) -> subprocess.CompletedProcess[bytes]:
    """Run FFmpeg without questions, and leave it to the caller whether it failed."""
    return subprocess.run(
        [ffmpeg, "-hide_banner", "-nostdin", "-y", *args], capture_output=True, check=False
    )


def run_ffmpeg(ffmpeg: str, *args: str, where: str) -> subprocess.CompletedProcess[bytes]:
    """Run FFmpeg without questions; EncodeError with its first messages if it fails."""
    done = call_ffmpeg(ffmpeg, *args)
    if done.returncode:
        # The cause comes first, what follows from it after; addresses mean nothing to a reader.
        log = re.sub(r" @ 0x[0-9a-f]+", "", done.stderr.decode(errors="replace"))
        lines = log.strip().splitlines() or ["no message"]
        raise EncodeError(
            say(where, " | ".join(lines[:3]), "an FFmpeg run that succeeds", "see FFmpeg's message")
        )
    return done


def ffmpeg_version(ffmpeg: str) -> str:
    """Return the version FFmpeg reports; EncodeError if it is not FFmpeg with libvmaf."""
    try:
        text = subprocess.run(
            [ffmpeg, "-version"], capture_output=True, check=False, text=True
        ).stdout
    except OSError as broken:
        raise EncodeError(
            say(ffmpeg, f"cannot be run ({broken.strerror})", "an FFmpeg binary", "check --ffmpeg")
        ) from None
    found = re.match(r"ffmpeg version (\S+)", text)
    if not found:
        raise EncodeError(say(ffmpeg, "not FFmpeg", "an FFmpeg binary", "check --ffmpeg"))
    if "--enable-libvmaf" not in text:
        raise EncodeError(
            say(ffmpeg, "built without libvmaf", "--enable-libvmaf", "use another --ffmpeg")
        )
    return found[1]


def probe_encoder(ffmpeg: str, encoder: str) -> str:
    """Encode two generated frames and return the encoder's version ("not reported" if silent).

    Raises
    ------
    EncodeError
        If this machine cannot run `encoder`; the message carries FFmpeg's own reason.
    """
    unit = adapter(encoder)
    command = unit.command((unit.lo + unit.hi) // 2, unit.default_preset)
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch, f"probe{CONTAINER}")
        done = subprocess.run(
            [
                *(ffmpeg, "-hide_banner", "-nostdin", "-loglevel", "verbose"),
                *("-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25", "-frames:v", "2"),
                *(*command, str(out)),
            ],
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise EncodeError(
                say(
                    encoder,
                    f"cannot run here ({_reason(done.stderr, encoder)})",
                    f"a machine with {unit.hardware or 'software'} support for it",
                    "leave it out or run it where it works",
                )
            )
        evidence = done.stderr + out.read_bytes()
    versions = [m[1].decode() for p in _VERSION_PATTERNS if (m := re.search(p, evidence))]
    return versions[0] if versions else "not reported"


def _reason(log: bytes, encoder: str) -> str:
    """Pick the line of an FFmpeg log that says why `encoder` did not open."""
    lines = [
        line.strip() for line in log.decode(errors="replace").splitlines() if "@ 0x" not in line
    ]
    own = re.findall(rf"\[(?:{re.escape(encoder)}|AMF) @ \w+\] (.*)", log.decode(errors="replace"))
    own = [text for text in own if re.search("cannot|error|fail|no |not ", text, re.IGNORECASE)]
    unknown = re.search(rb"Unknown encoder '.*'", log)
    if unknown:
        return unknown[0].decode()
    return own[0] if own else (lines[-1] if lines else "no message")


def _threads(number: int | None) -> tuple[str, ...]:
    """Return FFmpeg's option for what comes next on its command line, an input or an output."""
    return ("-threads", str(number)) if number else ()
