"""Generated faults: the shipped model with bytes altered and all digests made right again."""

from __future__ import annotations

import hashlib
import json
import zlib

import numpy as np
import pytest
from hostile_models import CARD, MODEL, NAME, ROW, write

from fr_lib.errors import ArtefactError
from fr_lib.release import Predictor, verify

pytestmark = pytest.mark.reliability

EACH, BATCHES = 250, 20
FRAMES = np.array([[0.95, 0.5, 0.8, 0.9, 0.93, 5.0], [0.4, 0.1, 0.2, 0.3, 0.4, 20.0]])


def altered(data: bytes, rng: np.random.Generator) -> bytes:
    """Alter up to four bytes, cut a piece out, or put one in; form and names are hit most often."""
    place = int(rng.integers(len(data)))
    # Weights are most of a file; what is around them decides.
    if rng.random() < 0.7:
        edges = [*range(3000), *range(len(data) - 1500, len(data))]
        place = edges[int(rng.integers(len(edges)))] % len(data)
    kind = rng.integers(4)
    if kind == 0:
        end = place + int(rng.integers(1, 40))
        return data[:place] + data[end:]
    if kind == 1:
        return data[:place] + rng.bytes(int(rng.integers(1, 40))) + data[place:]
    many = bytearray(data)
    for at in range(place, min(place + int(rng.integers(1, 5)), len(data))):
        many[at] ^= int(rng.integers(1, 256))
    return bytes(many)


def outcome(folder) -> str:
    """Verify and load the row; whatever is loaded has to score inside 0..100."""
    try:
        problems = verify(folder, NAME)
    except ArtefactError as refused:  # there is no such row any more
        problems = str(refused).splitlines()
    assert all(line and "\n" not in line for line in problems)
    if problems:
        with pytest.raises(ArtefactError):
            Predictor.load(folder)
        return "refused"
    scores = Predictor.load(folder).score(FRAMES, "libx264", 30)
    assert ((scores >= 0) & (scores <= 100)).all()
    return "sound"


@pytest.mark.parametrize("batch", range(BATCHES))
def test_an_altered_graph_is_refused_or_is_a_network_of_ours(tmp_path, batch):
    rng, found = np.random.default_rng(batch), []
    folder = write(tmp_path / "tiny")
    for _ in range(EACH):
        data = altered(MODEL, rng)
        digest = hashlib.sha256(data).hexdigest()
        (folder / f"{NAME}.onnx").write_bytes(data)
        (folder / f"{NAME}.json").write_text(json.dumps(CARD | {"sha256": digest}))
        row = {"models": [ROW | {"sha256": digest}]}
        (folder / "registry.json").write_text(json.dumps(row))
        found.append(outcome(folder))
    print({word: found.count(word) for word in set(found)})  # noqa: T201
    assert found.count("refused") > EACH / 4


@pytest.mark.parametrize("batch", range(BATCHES))
def test_an_altered_sidecar_or_registry_is_refused_or_says_the_same(tmp_path, batch):
    rng, found = np.random.default_rng(zlib.crc32(bytes([batch]))), []
    folder = write(tmp_path / "tiny")
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    for turn in range(EACH):
        name = (f"{NAME}.json", "registry.json")[turn % 2]
        (folder / name).write_bytes(altered(before[name], rng))
        found.append(outcome(folder))
        (folder / name).write_bytes(before[name])
    print({word: found.count(word) for word in set(found)})  # noqa: T201
    assert found.count("refused") > EACH / 4
