"""The teacher's formula against libvmaf itself, and at its edges."""

from __future__ import annotations

import json
import subprocess

import imageio_ffmpeg
import numpy as np
import pytest

from fr_lib.corpus import vmaf_from_features
from fr_lib.errors import InputError
from fr_lib.schema import CANONICAL_6

FRAMES = 10
PERFECT = [1.0, 1.0, 1.0, 1.0, 1.0, 0.0]
WORN = [0.9, 0.5, 0.8, 0.9, 0.93, 5.0]


def ffmpeg(folder, *args):
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-loglevel", "error", "-y", *args]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def libvmaf_frames(tmp_path_factory):
    """Per-frame log entries of libvmaf: two generated clips, each encoded well and badly."""
    folder = tmp_path_factory.mktemp("libvmaf")
    entries = []
    for clip in ("testsrc2=size=320x180:rate=25", "mandelbrot=size=320x180:rate=25"):
        ffmpeg(
            folder, "-f", "lavfi", "-i", clip, "-frames:v", str(FRAMES),
            "-pix_fmt", "yuv420p", "reference.y4m",
        )  # fmt: skip
        for crf in ("20", "45"):
            ffmpeg(
                folder, "-i", "reference.y4m", "-c:v", "libx264", "-preset", "veryfast",
                "-crf", crf, "encode.mp4",
            )  # fmt: skip
            ffmpeg(folder, "-i", "encode.mp4", "-pix_fmt", "yuv420p", "decoded.y4m")
            graph = "[0:v][1:v]libvmaf=log_fmt=json:log_path=log.json"
            ffmpeg(
                folder, "-i", "decoded.y4m", "-i", "reference.y4m", "-lavfi", graph,
                "-f", "null", "-",
            )  # fmt: skip
            frames = json.loads((folder / "log.json").read_text())["frames"]
            assert len(frames) == FRAMES
            entries += [frame["metrics"] for frame in frames]
    return entries


def test_agrees_with_libvmaf_on_every_frame(libvmaf_frames):
    features = [[frame[f"integer_{name}"] for name in CANONICAL_6] for frame in libvmaf_frames]
    expected = np.array([frame["vmaf"] for frame in libvmaf_frames])
    # The two qualities have to span a range, or agreement would say little.
    assert expected.max() - expected.min() > 40
    assert np.abs(vmaf_from_features(features) - expected).max() < 2e-4


def test_feature_order_matters(libvmaf_frames):
    swapped = [[f[f"integer_{name}"] for name in reversed(CANONICAL_6)] for f in libvmaf_frames]
    expected = np.array([frame["vmaf"] for frame in libvmaf_frames])
    assert np.abs(vmaf_from_features(swapped) - expected).max() > 10


def test_known_values():
    np.testing.assert_allclose(vmaf_from_features([PERFECT, WORN]), [97.42804, 72.68178], atol=1e-5)


def test_is_clipped_at_both_ends():
    good, bad = [1.0, 1.0, 1.0, 1.0, 1.0, 15.0], [0.4, 0.05, 0.1, 0.1, 0.1, 0.0]
    assert vmaf_from_features([good, bad]).tolist() == [100.0, 0.0]


def test_rows_do_not_depend_on_the_chunk_they_are_in():
    rng = np.random.default_rng(0)
    features = rng.uniform(0.3, 1.0, (40_000, 6))
    together = vmaf_from_features(features)
    assert together.shape == (40_000,)
    assert together.dtype == np.float64
    some = [0, 16_383, 16_384, 32_767, 32_768, 39_999]
    np.testing.assert_allclose(vmaf_from_features(features[some]), together[some], atol=1e-9)


def test_no_rows_give_no_scores():
    assert vmaf_from_features(np.empty((0, 6))).shape == (0,)


def test_nan_feature_gives_nan_for_its_row_alone():
    scores = vmaf_from_features([PERFECT, [np.nan, *PERFECT[1:]]])
    assert np.isfinite(scores).tolist() == [True, False]


@pytest.mark.parametrize("features", [PERFECT, [PERFECT[:5]], [[PERFECT]]])
def test_other_shapes_are_refused(features):
    with pytest.raises(InputError, match=r"teacher features: shape .* allowed: \(N, 6\)"):
        vmaf_from_features(features)
