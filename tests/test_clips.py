"""Clips as cameras, editors and taggers leave them: the right rows, or one clear line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fr_lib.corpus import read_table
from fr_lib.encode import build_grid, default_ffmpeg, find_sources, make_corpus
from fr_lib.encode.clips import Source, decode_y4m
from fr_lib.encode.shift import check_shift, shift_errors
from fr_lib.encode.y4m import Raster, luma, read_y4m, y4m_layout
from fr_lib.errors import EncodeError

FFMPEG = default_ffmpeg()
FRAMES = 8
PICTURES = ("-f", "lavfi", "-i", "mandelbrot=size=128x96:rate=25")
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
H265 = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error")


def ffmpeg(*args: object) -> None:
    subprocess.run([FFMPEG, "-v", "error", "-y", *map(str, args)], check=True)


def make(path: Path, *options: object, frames: int = FRAMES) -> Path:
    ffmpeg(*PICTURES, "-frames:v", frames, *options, path)
    return path


def decode(clip: Path) -> Raster:
    return decode_y4m(FFMPEG, Source(clip.stem, str(clip), "0" * 64), clip.with_suffix(".out"))


def refusal(clip: Path) -> str:
    with pytest.raises(EncodeError) as caught:
        decode(clip)
    message = str(caught.value)
    assert message.startswith(f"{clip}: ")
    assert "\n" not in message
    return message


def rows_of(clip: Path, quality="30", encoder="libx264"):
    cells = build_grid(find_sources([str(clip)]), [encoder], [quality], ["ultrafast"], threads=1)
    out = clip.with_suffix(".rows.jsonl")
    assert make_corpus(cells, out, FFMPEG, lambda _: None) == (1, [])
    return read_table(out)


def corpus_command(clip: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """Run the command on a clip at two quality values."""
    words = ["--source", clip, "--encoder", "libx264", "--quality", "30,40", "--out", out]
    return subprocess.run(
        [sys.executable, "-m", "fr_lib", "corpus", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )


# --- which stream ---------------------------------------------------------------------------------


def boxes(data: bytes) -> list[bytes]:
    """Return the boxes of MP4, one after another."""
    found = []
    while data:
        size = int.from_bytes(data[:4], "big")
        found.append(data[:size])
        data = data[size:]
    return found


def tags_first(clip: Path) -> None:
    """Put tags, cover art among them, before the tracks, as some taggers do."""
    parts = boxes(clip.read_bytes())
    at = next(i for i, part in enumerate(parts) if part[4:8] == b"moov")
    inner = sorted(boxes(parts[at][8:]), key=lambda part: part[4:8] != b"udta")
    parts[at] = parts[at][:8] + b"".join(inner)
    clip.write_bytes(b"".join(parts))


def test_cover_art_before_the_video_is_not_the_video(tmp_path):
    video = make(tmp_path / "video.mp4", *H264)
    cover, tagged = tmp_path / "cover.png", tmp_path / "tagged.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc=size=300x300", "-frames:v", 1, cover)
    ffmpeg(
        *("-i", video, "-i", cover, "-map", "0", "-map", "1", "-c", "copy"),
        *("-disposition:v:1", "attached_pic", tagged),
    )
    tags_first(tagged)
    listed = subprocess.run([FFMPEG, "-i", tagged], capture_output=True, text=True, check=False)
    first = next(line for line in listed.stderr.splitlines() if "Stream #0:0" in line)
    assert "attached pic" in first
    plain, found = rows_of(video), rows_of(tagged)
    assert len(found) == FRAMES
    assert found["vmaf"].tolist() == plain["vmaf"].tolist()


def test_a_file_of_cover_art_alone_has_no_video(tmp_path):
    cover, song = tmp_path / "cover.png", tmp_path / "song.mp3"
    ffmpeg("-f", "lavfi", "-i", "testsrc=size=300x300", "-frames:v", 1, cover)
    ffmpeg(
        *("-f", "lavfi", "-i", "sine=duration=0.2", "-i", cover, "-map", "0", "-map", "1"),
        *("-c:v", "copy", "-disposition:v:0", "attached_pic", song),
    )
    assert "matches no streams" in refusal(song)


# --- damage ---------------------------------------------------------------------------------------

CODECS = {
    "x264.mp4": (*H264, "-movflags", "+faststart"),
    "x264.h264": H264,
    "x265.mkv": (*H265, "-pix_fmt", "yuv420p"),
    "ffv1.mkv": ("-c:v", "ffv1", "-pix_fmt", "yuv420p"),
    "prores.mov": ("-c:v", "prores_ks", "-pix_fmt", "yuv422p10le", "-movflags", "+faststart"),
    "mpeg2.mpg": ("-c:v", "mpeg2video", "-pix_fmt", "yuv420p"),
    "plain.y4m": ("-pix_fmt", "yuv420p"),
}


@pytest.fixture(scope="module", params=CODECS)
def sound(request, tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("sound") / request.param, *CODECS[request.param])


def test_a_sound_clip_is_taken_and_one_cut_short_is_refused(sound, tmp_path):
    assert decode(sound).frames == FRAMES
    whole = sound.read_bytes()
    cut = tmp_path / sound.name
    cut.write_bytes(whole[: len(whole) * 7 // 10])
    assert "damaged or cut short" in refusal(cut)


# What is spoilt inside the others is a picture all the same.
@pytest.mark.parametrize(
    "sound", [n for n in CODECS if "y4m" not in n and "x265" not in n], indirect=True
)
def test_a_damaged_clip_is_refused(sound, tmp_path):
    spoilt = np.frombuffer(sound.read_bytes(), np.uint8).copy()
    places = np.random.default_rng(1).integers(len(spoilt) * 4 // 10, len(spoilt) * 8 // 10, 40)
    spoilt[places] ^= 0xFF
    clip = tmp_path / sound.name
    clip.write_bytes(spoilt.tobytes())
    message = refusal(clip)
    assert "damaged or cut short (FFmpeg: " in message
    assert "Terminating" not in message


def test_damage_of_a_stream_that_is_not_scored_costs_nothing(tmp_path):
    clip = tmp_path / "clip.ts"
    ffmpeg(
        *(*PICTURES, "-f", "lavfi", "-i", "sine", "-t", "0.8", *H264, "-c:a", "aac"),
        *("-pat_period", "10", clip),
    )
    packets = np.frombuffer(clip.read_bytes(), np.uint8).copy().reshape(-1, 188)
    pid = (packets[:, 1] & 31).astype(int) << 8 | packets[:, 2]
    audio = np.flatnonzero(pid == 0x101)
    assert len(audio) > 3
    packets[np.ix_(audio, range(60, 180, 7))] ^= 0x5A
    clip.write_bytes(packets.tobytes())
    assert decode(clip).frames == 20


def test_the_command_tells_of_a_damaged_clip_once(tmp_path):
    clip = make(tmp_path / "Clip.mkv", *H264)
    clip.write_bytes(clip.read_bytes()[:-300])
    done = corpus_command(clip, tmp_path / "c.jsonl")
    assert done.returncode == 2
    assert done.stderr.count("damaged or cut short") == 1
    assert not (tmp_path / "c.jsonl").exists()


# --- pictures that change -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (("-vf", "scale=96:64"), "128x96 yuv420p, then 96x64 yuv420p"),
        (("-pix_fmt", "yuv422p"), "128x96 yuv420p, then 128x96 yuv422p"),
    ],
)
def test_pictures_that_change_in_mid_stream_are_refused(tmp_path, other, told):
    parts = [make(tmp_path / "a.h264", *H264), make(tmp_path / "b.h264", *H264, *other)]
    clip = tmp_path / "both.h264"
    clip.write_bytes(b"".join(part.read_bytes() for part in parts))
    message = refusal(clip)
    assert f"both.h264: pictures change in mid-stream: {told}; allowed: one size" in message


def test_two_parts_of_one_kind_are_one_clip(tmp_path):
    part = make(tmp_path / "a.h264", *H264)
    clip = tmp_path / "both.h264"
    clip.write_bytes(part.read_bytes() * 2)
    assert decode(clip).frames == 2 * FRAMES


# --- kinds of sources that are right --------------------------------------------------------------

HDR = ("-color_primaries", "bt2020", "-color_trc", "smpte2084", "-colorspace", "bt2020nc")
KINDS = {
    "interlaced.mp4": ((*H264, "-flags", "+ildct+ilme"), "yuv420p"),
    "interlaced.ts": (
        ("-c:v", "mpeg2video", "-q:v", "2", "-pix_fmt", "yuv420p", "-flags", "+ildct+ilme"),
        "yuv420p",
    ),
    "variable_rate.mkv": ((*H264, "-vf", "setpts=N*N/TB/900", "-fps_mode", "vfr"), "yuv420p"),
    "hdr.mp4": ((*H265, "-pix_fmt", "yuv420p10le", *HDR), "yuv420p10le"),
    "ten_bit.mkv": (("-c:v", "ffv1", "-pix_fmt", "yuv422p10le"), "yuv422p10le"),
    "full_range.mp4": ((*H264, "-color_range", "pc"), "yuv420p"),
    "colours.mp4": ((*H264, "-pix_fmt", "yuv444p"), "yuv444p"),
    "alpha.mov": (("-c:v", "prores_ks", "-pix_fmt", "yuva444p10le"), "yuv444p12le"),
    "alpha.mkv": (("-c:v", "png", "-pix_fmt", "rgba"), "yuv444p"),
    "open_gop.ts": (
        ("-c:v", "libx265", "-x265-params", "log-level=error:open-gop=1:keyint=5"),
        "yuv444p",
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_source_of_any_kind_gives_a_row_per_frame(name, tmp_path):
    options, pix_fmt = KINDS[name]
    clip = make(tmp_path / name, *options)
    assert decode(clip) == Raster(128, 96, pix_fmt, FRAMES)
    # libx264 takes no 12 bits.
    rows = rows_of(clip, "1", "libx265" if "12" in pix_fmt else "libx264")
    assert rows["frame_index"].tolist() == [*range(FRAMES)]
    assert rows["vmaf"].min() > 96.5


def test_a_rotated_source_is_turned_as_a_player_turns_it(tmp_path):
    upright = make(tmp_path / "upright.mp4", *H264)
    rotated = tmp_path / "rotated.mp4"
    ffmpeg("-display_rotation", 90, "-i", upright, "-c", "copy", rotated)
    assert decode(rotated) == Raster(96, 128, "yuv420p", FRAMES)
    assert len(rows_of(rotated)) == FRAMES


@pytest.mark.parametrize(
    "name", ["a:b", "it's", "back\\slash", "a,b;[c]", "a b", "größe 日本", "%d"]
)
def test_a_scratch_folder_and_a_clip_of_any_name_work(name, tmp_path, monkeypatch):
    folder = tmp_path / name
    folder.mkdir()
    clip = make(folder / f"{name}.mkv", *H264, frames=3)
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    assert len(rows_of(clip)) == 3


# --- frames out of place --------------------------------------------------------------------------


def y4m(clip: Path, out: Path, *filters: str) -> Path:
    graph = ",".join(("format=yuv420p", *filters))
    ffmpeg("-i", clip, "-vf", graph, "-fps_mode", "passthrough", out)
    return out


LATER = "loop=loop={0}:size=1:start=0,trim=end_frame={1}"
EARLIER = "trim=start_frame={0},setpts=PTS-STARTPTS,tpad=stop={0}:stop_mode=clone"


@pytest.fixture(scope="module")
def moving(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("moving")
    return y4m(make(folder / "clip.mkv", *H264, frames=20), folder / "reference.y4m")


@pytest.mark.parametrize("by", [1, 2])
@pytest.mark.parametrize(("how", "word"), [(LATER, "earlier"), (EARLIER, "later")])
@pytest.mark.parametrize("crf", [15, 27])
def test_frames_out_of_place_are_refused(moving, tmp_path, by, how, word, crf):
    encode = tmp_path / "encode.mp4"
    ffmpeg("-i", moving, *H264, "-crf", crf, encode)
    shifted = y4m(encode, tmp_path / "shifted.y4m", how.format(by, 20))
    assert read_y4m(shifted) == read_y4m(moving)
    with pytest.raises(EncodeError, match=rf"^cell: frames match the reference's {by} {word} "):
        check_shift("cell", moving, shifted)
    check_shift("cell", moving, y4m(encode, tmp_path / "sound.y4m"))


def test_an_encoder_that_repeats_its_first_frame_costs_the_cell(moving, tmp_path):
    program = tmp_path / "ffmpeg"
    # What reads the encode gets its frames one later, as many as there were.
    program.write_text(
        '#!/bin/sh\ncase "$*" in *decoded.y4m) for word do\n    shift\n'
        f'    case "$word" in *format=*) word="{LATER.format(1, 20)},$word" ;; esac\n'
        f'    set -- "$@" "$word"\ndone ;; esac\nexec "{FFMPEG}" "$@"\n'
    )
    program.chmod(0o755)
    cells = build_grid(find_sources([str(moving)]), ["libx264"], ["15"])
    encoded, [failure] = make_corpus(cells, tmp_path / "c.jsonl", str(program), lambda _: None)
    assert encoded == 0
    assert failure.startswith(
        "reference libx264 medium 15: frames match the reference's 1 earlier (squared error "
    )
    assert "it is not scored" in failure


COARSE = {
    "libx264": ("-preset", "ultrafast", "-crf", "51"),
    "libsvtav1": ("-preset", "12", "-crf", "63"),
    "libvvenc": ("-preset", "faster", "-qp", "53", "-pix_fmt", "yuv420p10le"),
}
SCENES = {
    "still": "smptebars=size=128x96:rate=25",
    "moving": "mandelbrot=size=128x96:rate=25",
    "flashing": "mandelbrot=size=128x96:rate=25,eq=brightness='0.3*mod(n,2)':eval=frame",
    "slow": "smptebars=size=128x96:rate=25,scroll=h=0.003",
    "noise": "color=gray:size=128x96:rate=25,noise=alls=60:allf=t",
}


@pytest.mark.parametrize(
    ("encoder", "scene"),
    [*(("libx264", scene) for scene in SCENES), ("libsvtav1", "slow"), ("libvvenc", "moving")],
)
def test_the_coarsest_sound_encodes_are_not_refused(encoder, scene, tmp_path):
    reference, encode = tmp_path / "reference.y4m", tmp_path / "encode.mp4"
    pictures = ("-f", "lavfi", "-i", SCENES[scene], "-frames:v", FRAMES, "-pix_fmt", "yuv420p")
    ffmpeg(*pictures, reference)
    ffmpeg("-i", reference, "-c:v", encoder, *COARSE[encoder], encode)
    decode_y4m(FFMPEG, encode, tmp_path / "decoded.y4m", "yuv420p")
    check_shift("cell", reference, tmp_path / "decoded.y4m")


@pytest.mark.parametrize(("frames", "shifts"), [(1, 1), (2, 1), (3, 3), (5, 5)])
def test_a_short_clip_is_held_at_as_many_shifts_as_it_has(frames, shifts, tmp_path):
    clip = y4m(make(tmp_path / "a.mkv", *H264, frames=frames), tmp_path / "a.y4m")
    errors = shift_errors(clip, clip)
    assert len(errors) == shifts
    assert errors[0] == 0
    check_shift("cell", clip, clip)


def test_luma_is_what_ffmpeg_says_it_is_at_every_depth(tmp_path):
    for pix_fmt, gray in (("yuv420p", "gray"), ("yuv422p10le", "gray10le")):
        clip = make(tmp_path / "a.y4m", "-pix_fmt", pix_fmt, "-strict", "-1", frames=3)
        raw = tmp_path / "a.raw"
        ffmpeg("-i", clip, "-vf", "extractplanes=y", "-pix_fmt", gray, "-f", "rawvideo", raw)
        kind = "u1" if gray == "gray" else "<u2"
        planes = np.fromfile(raw, kind).reshape(3, 96, 128)
        layout = y4m_layout(clip)
        assert all((luma(clip, layout, t) == planes[t]).all() for t in range(3))


def test_deeper_decodes_are_held_against_8_bit_references(moving, tmp_path):
    deeper = tmp_path / "deeper.y4m"
    ffmpeg("-i", moving, "-pix_fmt", "yuv420p10le", "-strict", "-1", deeper)
    errors = shift_errors(moving, deeper)
    assert errors[0] == 0
    assert min(errors[-1], errors[1]) > 1
