"""Training many models at once gives what training each one alone would give."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import psutil
import pytest
import torch
from by_hand import forward, masks_of
from sklearn.preprocessing import StandardScaler

from fr_lib.corpus import synthetic_table
from fr_lib.errors import InputError, TrainingError
from fr_lib.schema import ADAPTERS, CANONICAL_6, N_CODEC_BLOCK, codec_block
from fr_lib.train import (
    RECIPES,
    FRRegressor,
    Job,
    Recipe,
    Scaler,
    Trained,
    keep_processes,
    train_many,
)
from fr_lib.train.fold import fold_constant_columns
from fr_lib.train.many import pick_device
from fr_lib.train.recipe import named_recipe

SIX, ALL = tuple(range(6)), tuple(range(6 + N_CODEC_BLOCK))
# Few steps at a high rate: the weights move far enough for a wrong gradient to show.
FAST = Recipe(name="test", hidden=16, lr=5e-3, epochs=5)


def make_table(encoders=("libx264", "libvvenc")) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return inputs (N, C), VMAF (N,) and sources (N,) of a made-up corpus."""
    rows = synthetic_table(encoders, [20, 33, 45], sources=4, frames=13, seed=0)
    ordinals = [
        ADAPTERS[e].presets[p] for e, p in zip(rows["encoder"], rows["preset"], strict=True)
    ]
    block = codec_block(rows["encoder"].tolist(), ordinals, rows["cq"].to_numpy())
    table = np.concatenate([rows[list(CANONICAL_6)].to_numpy(np.float32), block], axis=1)
    return table, rows["vmaf"].to_numpy(np.float32), rows["src"].to_numpy(object)


TABLE, VMAF, SOURCES = make_table()


def run(jobs, plan=FAST, table=TABLE, target=VMAF, **options) -> list[Trained]:
    return train_many(table, target, jobs, plan, device="cpu", **options)


def first(n: int, of: int = len(TABLE)) -> np.ndarray:
    """Mark the first n rows."""
    return np.arange(of) < n


EVERY = first(len(TABLE))


def some_jobs() -> list[Job]:
    """Return jobs that differ in rows, width and seed; only some row counts divide by the batch."""
    counts = (len(TABLE), 96, 250, 17, 33, 1)
    rng = np.random.default_rng(5)
    rows = [rng.permutation(len(TABLE)) < n for n in counts]
    return [Job(r, (SIX, ALL)[i % 2], seed=i // 2) for i, r in enumerate(rows)]


def train_alone(job: Job, plan: Recipe) -> np.ndarray:
    """Train by the book: one model, autograd and torch's own Adam; return its predictions."""
    torch.manual_seed(job.seed)
    model = FRRegressor(len(job.columns), plan.hidden)
    inputs = TABLE[:, job.columns].copy()
    scaler = StandardScaler().fit(inputs[job.rows, :6].astype(np.float64))
    inputs[:, :6] = scaler.transform(inputs[:, :6].astype(np.float64))
    x, y = torch.from_numpy(inputs), torch.from_numpy(VMAF)[:, None]
    adam = torch.optim.Adam(model.parameters(), lr=plan.lr, weight_decay=plan.weight_decay)
    steps = plan.epochs * math.ceil(job.rows.sum() / plan.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        adam,
        lambda t: 0.5 * (1 + math.cos(math.pi * t / steps)) if plan.schedule == "cosine" else 1.0,
    )
    shuffle, dropper = np.random.default_rng(job.seed), np.random.default_rng([job.seed, 1])
    for _ in range(plan.epochs):
        order = shuffle.permutation(np.flatnonzero(job.rows))
        for start in range(0, len(order), plan.batch):
            rows = order[start : start + plan.batch]
            masks = [masks_of(dropper, plan)[: len(rows)] for _ in range(2)]
            adam.zero_grad()
            torch.nn.functional.mse_loss(forward(model, x[rows], masks), y[rows]).backward()
            adam.step()
            schedule.step()
    with torch.no_grad():
        return model(x).squeeze(1).numpy()


# --- parity with the plain loop -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weight_decay", "schedule", "dropout"),
    [(0.0, "constant", 0.0), (1e-2, "cosine", 0.0), (0.0, "cosine", 0.3), (1e-2, "constant", 0.3)],
)
def test_parity_with_one_model_after_another(weight_decay, schedule, dropout):
    plan = replace(FAST, weight_decay=weight_decay, schedule=schedule, dropout=dropout)
    jobs = some_jobs()
    for job, trained in zip(jobs, run(jobs, plan), strict=True):
        # A column that is constant in training is powerless afterwards: compare where it is that.
        rows = job.rows
        np.testing.assert_allclose(
            trained.predict(TABLE[rows]), train_alone(job, plan)[rows], atol=1e-3
        )


def test_parity_with_the_recipe_of_the_decision_record():
    job = Job(np.arange(len(TABLE)) % 2 == 0, ALL, seed=0)
    plan = named_recipe("adr0319", epochs=2)
    [trained] = run([job], plan)
    np.testing.assert_allclose(
        trained.predict(TABLE[job.rows]), train_alone(job, plan)[job.rows], atol=1e-3
    )


def test_a_batch_larger_than_the_corpus_is_one_step_per_epoch():
    plan = replace(FAST, batch=len(TABLE) + 100)
    job = Job(first(50), SIX, seed=1)
    [trained] = run([job], plan)
    np.testing.assert_allclose(trained.predict(TABLE), train_alone(job, plan), atol=1e-3)


def test_torch_takes_the_products_that_numpy_takes(monkeypatch):
    """On a GPU torch multiplies, with the same views of the same buffers."""

    def bmm(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
        torch.bmm(torch.from_numpy(a), torch.from_numpy(b), out=torch.from_numpy(out))

    monkeypatch.setattr("fr_lib.train.batch.np.matmul", bmm)
    jobs = some_jobs()
    for job, trained in zip(jobs, run(jobs), strict=True):
        np.testing.assert_allclose(
            trained.predict(TABLE[job.rows]), train_alone(job, FAST)[job.rows], atol=1e-3
        )


def test_longer_training_fits_better():
    job = Job(EVERY, ALL, seed=0)
    errors = [
        np.abs(run([job], replace(FAST, epochs=epochs))[0].predict(TABLE) - VMAF).mean()
        for epochs in (1, 40)
    ]
    assert errors[1] < 2 < errors[0]


# --- independence, determinism --------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_model_does_not_depend_on_its_neighbours_to_the_last_bit(schedule, dropout):
    plan = replace(FAST, dropout=dropout, schedule=schedule)
    jobs = some_jobs()
    together = weights(run(jobs, plan))
    assert together == [w for job in jobs for w in weights(run([job], plan))]
    turned = run(jobs[::-1], plan)[::-1]
    assert weights(turned) == together


def test_kept_processes_train_what_one_trains_to_the_last_bit(monkeypatch):
    """They are kept for the block, and no longer, though one is at work when another one fails."""
    plans = [replace(FAST, dropout=dropout) for dropout in (0.0, 0.3)]
    here = [run(some_jobs(), plan) for plan in plans]
    monkeypatch.setattr("fr_lib.train.many.WORTH_A_PROCESS", 0)
    monkeypatch.setattr("fr_lib.train.many.cpu_count", lambda: 2)
    kept = []
    with keep_processes():
        for plan, alone in zip(plans, here, strict=True):
            seen: list[float] = []
            there = run(
                some_jobs(), plan, progress=lambda text, share, seen=seen: seen.append(share)
            )
            assert weights(there) == weights(alone)
            assert seen[-1] == pytest.approx(1.0)
            assert [t.loss for t in there] == [t.loss for t in alone]
            kept.append(workers())
        wrong = [Job(EVERY, SIX, 0), Job(EVERY, (*SIX, 99), 0)]
        with pytest.raises(IndexError, match="99"):
            run(wrong, replace(FAST, epochs=10**6))
    assert kept[0] == kept[1]
    assert len(kept[0]) == 2
    assert not workers()


def test_more_models_than_one_batch_holds():
    plan = replace(FAST, epochs=2)
    jobs = [Job(first(40 + i), SIX, seed=i) for i in range(19)]
    for job, trained in zip(jobs, run(jobs, plan), strict=True):
        np.testing.assert_allclose(trained.predict(TABLE), train_alone(job, plan), atol=1e-3)


def weights(trained: list[Trained]) -> list[bytes]:
    return [p.detach().numpy().tobytes() for t in trained for p in t.model.parameters()]


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_same_seed_gives_the_same_bytes(dropout):
    plan = replace(FAST, dropout=dropout, epochs=2)
    threads = torch.get_num_threads()
    first = weights(run(some_jobs(), plan))
    torch.manual_seed(99)
    assert weights(run(some_jobs(), plan)) == first
    assert torch.get_num_threads() == threads


def test_another_seed_gives_another_model_and_the_callers_random_state_is_left_alone():
    before = torch.get_rng_state()
    rows = first(60)
    a, b = run([Job(rows, SIX, 0), Job(rows, SIX, 1)])
    assert not np.allclose(a.predict(TABLE), b.predict(TABLE))
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_trains_another_model_and_is_off_when_predicting():
    job = Job(EVERY, ALL, seed=0)
    plain, dropped = (run([job], replace(FAST, dropout=p, epochs=20))[0] for p in (0.0, 0.1))
    assert np.abs(plain.predict(TABLE) - dropped.predict(TABLE)).max() > 0.1
    assert np.abs(dropped.predict(TABLE) - VMAF).mean() < 15
    assert (dropped.predict(TABLE) == dropped.predict(TABLE)).all()


# --- scaler ---------------------------------------------------------------------------------------


def test_rows_that_are_not_a_jobs_own_leave_no_trace():
    held_out = np.isin(SOURCES, SOURCES[:1])
    job = Job(~held_out, ALL, seed=0)
    poisoned, poisoned_target = TABLE.copy(), VMAF.copy()
    poisoned[held_out, :6] = 1e6
    poisoned_target[held_out] = np.nan
    [clean] = run([job])
    [same] = run([job], table=poisoned, target=poisoned_target)
    assert clean.scaler.mean.tolist() == same.scaler.mean.tolist()
    assert clean.scaler.std.tolist() == same.scaler.std.tolist()
    assert weights([clean]) == weights([same])
    assert clean.loss == same.loss
    everything = Job(EVERY, ALL, seed=0)
    [seen] = run([everything], table=poisoned)
    assert seen.scaler.mean[0] > 1e3


def test_scaler_is_the_population_one_and_spares_constants():
    features = TABLE[:100, :6].copy()
    features[:, 2] = 0.75
    # Below 1e-8, though not constant; the next column is just above.
    features[:, 3] = np.where(np.arange(100) % 2, 1e-9, 0)
    features[:, 4] = np.where(np.arange(100) % 2, 4e-8, 0)
    scaler = Scaler.fit(features)
    wide = features.astype(np.float64)
    np.testing.assert_allclose(scaler.mean, wide.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(scaler.std[:2], wide[:, :2].std(axis=0), rtol=1e-6)
    assert scaler.std[2:4].tolist() == [1.0, 1.0]
    assert scaler.std[4] == pytest.approx(2e-8)
    assert scaler(features).dtype == np.float32
    assert np.abs(scaler(features)[:, 2]).max() == 0


def test_a_constant_feature_trains():
    table = TABLE.copy()
    table[:, 5] = 3.25
    [trained] = run([Job(EVERY[: len(table)], SIX, 0)], table=table)
    assert trained.scaler.std[5] == 1.0
    assert np.isfinite(trained.predict(table)).all()


# --- constant columns of the block ----------------------------------------------------------------


def test_constant_block_columns_are_powerless_afterwards_and_nothing_else_moved():
    table, vmaf, _ = make_table(["h264_nvenc"])
    job = Job(EVERY[: len(table)], ALL, seed=0)
    [trained] = run([job], table=table, target=vmaf)
    predicted = trained.predict(table)
    swept = table.copy()
    # One encoder, one preset: only crf_norm (column 23) varied in training.
    swept[:, 6:-2] = 0
    swept[:, 7] = 1
    swept[:, -2] = np.linspace(0, 1, len(table))
    assert (trained.predict(swept) == predicted).all()
    assert (trained.model.layers[0].weight[:, 6:23] == 0).all()
    swept[:, 23] += 0.2
    assert np.abs(trained.predict(swept) - predicted).max() > 0.01


def test_folding_does_not_move_predictions_on_training_rows():
    table, vmaf, _ = make_table(["h264_nvenc"])
    job = Job(EVERY[: len(table)], ALL, seed=0)
    [folded] = run([job], table=table, target=vmaf)
    [plain] = run([job], replace(FAST, fold_constants=False), table=table, target=vmaf)
    assert (plain.model.layers[0].weight[:, 6:23] != 0).any()
    np.testing.assert_allclose(folded.predict(table), plain.predict(table), atol=1e-4)


def folded_and_plain(table: np.ndarray) -> list[Trained]:
    job = Job(EVERY, ALL, seed=0)
    return [
        run([job], replace(FAST, fold_constants=fold), table=table)[0] for fold in (True, False)
    ]


def test_a_preset_that_never_varied_within_an_encoder_is_powerless_afterwards():
    table = TABLE.copy()
    # libx264 is slot 0: one preset each, but not the same one.
    table[:, 22] = np.where(table[:, 6] == 1, 0.25, 0.75)
    folded, plain = folded_and_plain(table)
    np.testing.assert_allclose(folded.predict(table), plain.predict(table), atol=1e-4)
    swept = table.copy()
    swept[:, 22] = np.linspace(0, 1, len(table))
    assert (folded.predict(swept) == folded.predict(table)).all()
    assert np.abs(plain.predict(swept) - plain.predict(table)).max() > 0.01


def test_a_preset_that_varied_within_one_encoder_keeps_its_power():
    table = TABLE.copy()
    table[:, 22] = np.where(table[:, 6] == 1, 0.25, 0.75)
    table[0, 22] = 0.5
    folded, plain = (t.model.layers[0].weight for t in folded_and_plain(table))
    assert torch.equal(folded[:, 22], plain[:, 22])
    assert (folded[:, 22] != 0).all()


@pytest.mark.parametrize(("slots_of_the_last_row", "moved"), [([0, 1], True), ([0, 0], False)])
def test_a_preset_is_moved_into_slots_only_where_every_row_has_one(slots_of_the_last_row, moved):
    # Each slot has one preset; a row without a slot belongs to none of them.
    block = np.float32([[1, 0, 0.5, 0.2], [1, 0, 0.5, 0.4], [*slots_of_the_last_row, 0, 0.3]])
    model = FRRegressor(10, hidden=4)
    before = model.layers[0].weight.detach().clone()
    fold_constant_columns(model, block)
    after = model.layers[0].weight.detach()
    preset = before[:, 8].clone()
    assert (preset != 0).all()
    assert torch.equal(after[:, 8], torch.zeros(4) if moved else preset)
    assert torch.equal(after[:, 6], before[:, 6] + 0.5 * preset if moved else before[:, 6])


# --- recipes, bad input ---------------------------------------------------------------------------


def test_recipes_by_name():
    expected = {
        "name": "adr0319",
        "hidden": 64,
        "dropout": 0.0,
        "lr": 5e-4,
        "weight_decay": 1e-5,
        "batch": 32,
        "epochs": 200,
        "steps": 0,
        "schedule": "constant",
        "fold_constants": True,
        "made_per_row": 0,
        "censored": False,
    }
    assert named_recipe("adr0319").as_dict() == expected
    reference = {"name": "reference", "dropout": 0.1, "fold_constants": False}
    assert named_recipe("reference").as_dict() == expected | reference
    assert named_recipe(epochs=7).as_dict() == expected | {
        "name": "taught",
        "lr": 1e-2,
        "batch": 128,
        "schedule": "cosine",
        "epochs": 7,
        "made_per_row": 6,
        "censored": True,
    }
    assert (RECIPES["taught"].epochs, RECIPES["taught"].steps) == (75, 30_000)
    with pytest.raises(InputError, match="taught, adr0319, reference"):
        named_recipe("adr319")


@pytest.mark.parametrize(
    ("name", "allowed", "refused"),
    [
        ("hidden", 1, 0),
        ("batch", 1, 0),
        ("epochs", 1, 0),
        ("epochs", 1, -5),
        ("dropout", 0.0, -0.01),
        ("dropout", 0.99, 1.0),
        ("dropout", 0.5, math.nan),
        ("lr", 1e-12, 0.0),
        ("lr", 1.0, math.nan),
        ("weight_decay", 0.0, -1e-9),
        ("weight_decay", 0.0, math.nan),
        ("schedule", "cosine", "linear"),
        ("made_per_row", 0, -1),
    ],
)
def test_both_sides_of_what_a_recipe_may_hold(name, allowed, refused):
    assert getattr(Recipe(**{name: allowed}), name) == allowed
    with pytest.raises(InputError, match=rf"recipe .*{name}"):
        Recipe(**{name: refused})


def test_a_job_without_rows_is_refused():
    with pytest.raises(InputError, match="a model without rows"):
        run([Job(first(5), SIX, 0), Job(first(0), SIX, 0)])


def test_two_sets_of_columns_of_one_width_side_by_side():
    jobs = [Job(first(90), (*SIX, last), seed=0) for last in (18, ALL[-1])]
    for job, trained in zip(jobs, run(jobs), strict=True):
        np.testing.assert_allclose(
            trained.predict(TABLE[job.rows]), train_alone(job, FAST)[job.rows], atol=1e-3
        )


def test_rows_are_marked_one_by_one():
    for rows in (np.arange(5), first(5)[:-1], first(5).astype(np.uint8)):
        with pytest.raises(
            InputError, match=rf"training: rows of shape .* allowed: .*{len(TABLE)}"
        ):
            run([Job(rows, SIX, 0)])


def test_devices():
    assert pick_device("cpu") == "cpu"
    there = torch.cuda.is_available()
    assert pick_device("auto") == ("cuda" if there else "cpu")
    with pytest.raises(InputError, match="device: 'gpu'"):
        pick_device("gpu")
    if not there:
        with pytest.raises(InputError, match="no CUDA device here"):
            pick_device("cuda")


def test_progress_rises_to_the_end():
    seen: list[tuple[str, float]] = []
    run(
        some_jobs(),
        replace(FAST, epochs=3),
        progress=lambda text, share: seen.append((text, share)),
    )
    shares = [share for _, share in seen]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)
    assert seen[-1][0].startswith("epoch 3/3, MSE ")


# --- how it ends ----------------------------------------------------------------------------------


def workers() -> list[psutil.Process]:
    """Return the processes that train for this one."""
    family = psutil.Process().children(recursive=True)
    return [p for p in family if "fr_lib.worker" in p.cmdline()]


@pytest.fixture
def two(monkeypatch) -> Iterator[None]:
    """Let there be two cores; nothing that worked on them is left."""
    monkeypatch.setattr("fr_lib.train.many.cpu_count", lambda: 2)
    yield
    assert not workers()


def train_for_ever(meanwhile: Callable[[list[psutil.Process]], None]) -> None:
    """Start a training that nobody can wait for; do something when two processes are at work."""
    done = []

    def at_work(text: str, share: float) -> None:
        if not done:
            done.append(workers())
            assert len(done[0]) == 2
            meanwhile(done[0])

    run(some_jobs(), replace(FAST, epochs=10**6), progress=at_work)


@pytest.mark.usefixtures("two")
def test_ctrl_c_stops_all_processes():
    # As in a notebook's kernel; tests/test_worker.py has a terminal, which interrupts all of them.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            train_for_ever(lambda _: os.kill(os.getpid(), signal.SIGINT))
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("two")
def test_a_killed_process_is_one_clear_message(capfd):
    with pytest.raises(TrainingError) as told:
        train_for_ever(lambda at_work: at_work[0].kill())
    assert str(told.value).startswith(
        "training: a process was killed, most likely for want of memory;"
    )
    assert capfd.readouterr() == ("", "")
