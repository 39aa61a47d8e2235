"""Training with made rows and a censored loss is what autograd and torch's own Adam make of it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from by_hand import forward, masks_of
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from tiny import rows_of

from fr_lib.schema import ADAPTERS, CANONICAL_6, N_CODEC_BLOCK, codec_block
from fr_lib.train import FRRegressor, Job, Recipe, Scaler, Trained, new_model, train_many
from fr_lib.train.made import made_rows

SIX, ALL = tuple(range(6)), tuple(range(6 + N_CODEC_BLOCK))
# Three epochs of 20 steps, at a rate that soon takes scores past 100.
TAUGHT = Recipe(
    name="test",
    hidden=16,
    lr=5e-2,
    batch=2048,
    epochs=3,
    schedule="cosine",
    made_per_row=1,
    censored=True,
)
# Nothing but one step, which moves each weight that has a gradient by as much as Adam can.
ONE_STEP = Recipe(
    name="test", hidden=8, weight_decay=0.0, epochs=1, fold_constants=False, censored=True
)


def make_table() -> tuple[np.ndarray, np.ndarray]:
    """Return inputs (N, C) and VMAF (N,) of a made-up corpus."""
    rows = rows_of(("libx264", "libvvenc"), (20, 33, 45))
    ordinals = [
        ADAPTERS[e].presets[p] for e, p in zip(rows["encoder"], rows["preset"], strict=True)
    ]
    block = codec_block(rows["encoder"].tolist(), ordinals, rows["cq"].to_numpy())
    table = np.concatenate([rows[list(CANONICAL_6)].to_numpy(np.float32), block], axis=1)
    return table, rows["vmaf"].to_numpy(np.float32)


TABLE, VMAF = make_table()
EVERY = np.ones(len(TABLE), dtype=bool)


def train(jobs, plan=TAUGHT, table=TABLE, target=VMAF) -> list[Trained]:
    return train_many(table, target, jobs, plan, device="cpu")


def weights(trained: Trained) -> list[bytes]:
    return [p.detach().numpy().tobytes() for p in trained.model.parameters()]


# --- parity with autograd -------------------------------------------------------------------------


def loss_of(score: torch.Tensor, y: torch.Tensor, plan: Recipe, seen: Counter) -> torch.Tensor:
    """Return the mean square, row by row as the recipe's words have it; count what is censored."""
    low, high = (y <= 0) & (score <= 0), (y >= 100) & (score >= 100)
    if not plan.censored:
        return torch.nn.functional.mse_loss(score, y)
    seen.update(low=int(low.sum()), high=int(high.sum()))
    return torch.where(low | high, 0.0, (score - y) ** 2).sum() / len(y)


def train_alone(
    job: Job, plan: Recipe, target: np.ndarray = VMAF, seen: Counter | None = None
) -> np.ndarray:
    """Train by the book: one model, autograd and torch's own Adam; return its predictions."""
    # So small a network only loses by a second thread.
    with threadpool_limits(1):
        return _train_alone(job, plan, target, Counter() if seen is None else seen)


def _train_alone(job: Job, plan: Recipe, target: np.ndarray, seen: Counter) -> np.ndarray:
    torch.manual_seed(job.seed)
    model = FRRegressor(len(job.columns), plan.hidden)
    scaler = StandardScaler().fit(TABLE[job.rows, :6].astype(np.float64))
    rows, labels = TABLE[job.rows], target[job.rows]
    if plan.made_per_row:
        made, scores = made_rows(rows, plan.made_per_row, job.seed)
        rows, labels = np.concatenate([rows, made]), np.concatenate([labels, scores])

    def inputs(table: np.ndarray) -> torch.Tensor:
        picked = table[:, job.columns].copy()
        picked[:, :6] = scaler.transform(picked[:, :6].astype(np.float64))
        return torch.from_numpy(picked)

    x, y = inputs(rows), torch.from_numpy(labels)[:, None]
    adam = torch.optim.Adam(model.parameters(), lr=plan.lr, weight_decay=plan.weight_decay)
    steps = plan.epochs * math.ceil(len(x) / plan.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        adam,
        lambda t: 0.5 * (1 + math.cos(math.pi * t / steps)) if plan.schedule == "cosine" else 1.0,
    )
    shuffle, dropper = np.random.default_rng(job.seed), np.random.default_rng([job.seed, 1])
    for _ in range(plan.epochs):
        order = shuffle.permutation(len(x))
        for start in range(0, len(order), plan.batch):
            taken = order[start : start + plan.batch]
            masks = [masks_of(dropper, plan)[: len(taken)] for _ in range(2)]
            adam.zero_grad()
            loss_of(forward(model, x[taken], masks), y[taken], plan, seen).backward()
            adam.step()
            schedule.step()
    with torch.no_grad():
        return model(inputs(TABLE)).squeeze(1).numpy()


@pytest.mark.parametrize(("weight_decay", "dropout"), [(0.0, 0.0), (1e-2, 0.3)])
def test_parity_with_one_model_after_another(weight_decay, dropout):
    plan = replace(TAUGHT, weight_decay=weight_decay, dropout=dropout)
    jobs = [Job(EVERY, SIX, seed=0), Job(np.arange(len(TABLE)) % 3 > 0, ALL, seed=3)]
    seen: Counter = Counter()
    for job, trained in zip(jobs, train(jobs, plan), strict=True):
        alone = train_alone(job, plan, seen=seen)
        # A column that is constant in training is powerless afterwards: compare where it is that.
        np.testing.assert_allclose(trained.predict(TABLE[job.rows]), alone[job.rows], atol=1e-3)
    # Or parity would say nothing of either end.
    assert seen["low"] > 300
    assert seen["high"] > 10_000


def test_models_of_other_row_counts_are_censored_each_by_its_own_targets():
    """Side by side in one batch, one has targets at the ends alone and the other none of them."""
    plan = replace(TAUGHT, made_per_row=0, batch=16, epochs=40)
    targets = np.where(np.arange(len(TABLE)) < 30, np.resize([0.0, 100.0], len(TABLE)), 50.0)
    targets = targets.astype(np.float32)
    jobs = [Job(np.arange(len(TABLE)) < 30, SIX, 0), Job(np.arange(len(TABLE)) >= 25, SIX, 0)]
    for job, trained in zip(jobs, train(jobs, plan, target=targets), strict=True):
        alone = train_alone(job, plan, targets)
        np.testing.assert_allclose(trained.predict(TABLE[job.rows]), alone[job.rows], atol=1e-3)


# --- which rows have a gradient -------------------------------------------------------------------


def start(table: np.ndarray) -> Trained:
    """Return the network as it is before its first step."""
    model = new_model(table.shape[1], ONE_STEP, SEED).eval()
    return Trained(model, Scaler.fit(table[:, :6]), tuple(range(table.shape[1])), math.nan)


# A block is not standardised, so a last column takes the scores of an untrained network anywhere.
# This seed's fall by one point for every 30 or so.
SEED = 8
COLUMN = {(101, 105): -3_350.0, (95, 99): -3_200.0, (20, 40): -1e3, (-2, 0): 30.0, (0, 2): -30.0}


def scored(low: float, high: float) -> np.ndarray:
    """Return rows that the untrained network scores between these."""
    rows = np.column_stack([TABLE[:, :6], np.full(len(TABLE), COLUMN[low, high])])
    rows = rows.astype(np.float32)
    score = start(rows).predict(rows)
    assert low < score.min() <= score.max() < high
    return rows


def moves(rows: np.ndarray, targets, plan: Recipe = ONE_STEP) -> bool:
    """Tell whether one step with these rows moves any weight; the told loss has to agree."""
    targets = np.broadcast_to(np.float32(targets), len(rows))
    job = Job(np.ones(len(rows), dtype=bool), tuple(range(rows.shape[1])), SEED)
    [trained] = train([job], replace(plan, batch=len(rows)), rows, targets)
    moved = weights(trained) != weights(start(rows))
    assert moved == (trained.loss > 0)
    return moved


@pytest.mark.parametrize(
    ("score", "target", "moved"),
    [
        ((101, 105), 100.0, False),
        ((101, 105), 99.99, True),
        ((101, 105), 50.0, True),
        ((101, 105), 0.0, True),
        ((95, 99), 100.0, True),
        ((95, 99), 0.0, True),
        ((20, 40), 100.0, True),
        ((20, 40), 0.0, True),
        ((0, 2), 0.0, True),
        ((0, 2), 100.0, True),
        ((-2, 0), 0.0, False),
        ((-2, 0), 0.01, True),
        ((-2, 0), 50.0, True),
        ((-2, 0), 100.0, True),
    ],
)
def test_no_step_where_target_and_score_are_beyond_the_same_end(score, target, moved):
    rows = scored(*score)
    assert moves(rows, target) == moved
    # A plain square counts all of them.
    assert moves(rows, target, replace(ONE_STEP, censored=False))


@pytest.mark.parametrize(("score", "end", "inside"), [((101, 105), 100, 99), ((-2, 0), 0, 1)])
def test_one_row_whose_target_is_not_at_the_end_is_enough(score, end, inside):
    rows = scored(*score)
    targets = np.full(len(rows), end, dtype=np.float32)
    assert not moves(rows, targets)
    targets[-1] = inside
    assert moves(rows, targets)


def test_rows_beyond_an_end_add_nothing_to_the_step_of_the_others():
    """Their features may be anything as long as they stay beyond: the same step comes out."""
    rows, beyond = scored(20, 40), scored(101, 105)
    half = np.arange(len(rows)) % 2 == 0
    targets = np.where(half, 100.0, 50.0).astype(np.float32)
    plan = replace(ONE_STEP, batch=len(rows))
    job = Job(np.ones(len(rows), dtype=bool), tuple(range(7)), SEED)
    found = []
    for column in (1.0, 2.0):
        mixed = np.where(half[:, None], beyond, rows)
        mixed[half, 6] *= column
        [trained] = train([job], plan, mixed, targets)
        found.append((weights(trained), trained.loss))
    assert found[0] == found[1]
    assert found[0][1] > 0


def test_the_loss_that_is_told_is_the_censored_one():
    """What is told is of the scores before the step; half of the rows are beyond an end."""
    rows = scored(101, 105)
    targets = np.resize(np.float32([90.0, 100.0]), len(rows))
    plan = replace(ONE_STEP, batch=len(rows))
    job = Job(np.ones(len(rows), dtype=bool), tuple(range(7)), SEED)
    score = start(rows).predict(rows)
    square = (score - targets) ** 2
    [trained] = train([job], plan, rows, targets)
    assert trained.loss == pytest.approx(square[targets == 90].sum() / len(rows), rel=1e-4)
    [plain] = train([job], replace(plan, censored=False), rows, targets)
    assert plain.loss == pytest.approx(square.mean(), rel=1e-4)
    assert plain.loss > trained.loss + 1


def test_weights_decay_all_the_same():
    rows = scored(101, 105)
    plan = replace(ONE_STEP, weight_decay=1e-2, batch=len(rows))
    job = Job(np.ones(len(rows), dtype=bool), tuple(range(7)), SEED)
    [trained] = train([job], plan, rows, np.full(len(rows), 100.0, dtype=np.float32))
    assert trained.loss == 0
    before = start(rows).model.parameters()
    for old, new in zip(before, trained.model.parameters(), strict=True):
        assert (new.abs() < old.abs()).all()


# --- without the clip -----------------------------------------------------------------------------


@pytest.mark.parametrize("made_per_row", [0, 1])
def test_a_recipe_that_is_not_censored_is_the_plain_mean_square(made_per_row):
    plan = replace(TAUGHT, censored=False, made_per_row=made_per_row, epochs=2)
    targets = np.resize(np.float32([0.0, 100.0, 60.0]), len(TABLE))
    job = Job(EVERY, SIX, seed=1)
    [trained] = train([job], plan, target=targets)
    alone = train_alone(job, plan, targets)
    np.testing.assert_allclose(trained.predict(TABLE), alone, atol=1e-3)


def test_targets_within_the_scale_know_no_censoring_to_the_last_bit():
    targets = VMAF.clip(0.5, 99.5)
    plan = replace(TAUGHT, made_per_row=0, batch=16, epochs=40)
    job = Job(EVERY, ALL, seed=0)
    [censored] = train([job], plan, target=targets)
    [plain] = train([job], replace(plan, censored=False), target=targets)
    assert weights(censored) == weights(plain)
    assert censored.loss == plain.loss
    # Made rows have targets at both ends, and there it is another training.
    [censored] = train([job], TAUGHT)
    [plain] = train([job], replace(TAUGHT, censored=False))
    assert np.abs(censored.predict(TABLE) - plain.predict(TABLE)).max() > 0.1
