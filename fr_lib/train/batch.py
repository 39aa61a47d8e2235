"""A batch of independent models trained together, with gradients written out, in one process."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from fr_lib.schema import N_FEATURES, VMAF_RANGE
from fr_lib.train.fold import fold_constant_columns
from fr_lib.train.made import made_count, made_rows
from fr_lib.train.model import FRRegressor
from fr_lib.train.recipe import Recipe

MIN_STD = 1e-8
# Steps whose rows are gathered in one go.
CHUNK = 128
# Floats per cache line: where a model's parameters, and each of its layers, begin.
ALIGNED = 16


@dataclass(frozen=True)
class Scaler:
    """Mean and standard deviation of the six features over training rows, (6,) float32 each."""

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def fit(cls, features: np.ndarray) -> Scaler:
        """Fit on (N, 6) raw features: ddof 0, and std below 1e-8 counts as 1."""
        wide = np.asarray(features, dtype=np.float64)
        std = wide.std(axis=0)
        return cls(
            wide.mean(axis=0).astype(np.float32),
            np.where(std < MIN_STD, 1.0, std).astype(np.float32),
        )

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Standardise (N, 6) raw features to float32."""
        return (np.asarray(features, dtype=np.float32) - self.mean) / self.std


@dataclass(frozen=True)
class Job:
    """One model to train: the rows it may see, its input columns and its seed.

    Attributes
    ----------
    rows : (N,) bool array
        True for training rows of the input table. The scaler sees these and no others.
    columns : tuple of int
        Columns of the input table; the six features come first.
    seed : int
        Of initialisation, shuffles and dropout.
    """

    rows: np.ndarray
    columns: tuple[int, ...]
    seed: int


@dataclass(frozen=True)
class Trained:
    """A trained model with its scaler, its input columns and the MSE of its last step's rows."""

    model: FRRegressor
    scaler: Scaler
    columns: tuple[int, ...]
    loss: float

    def inputs(self, table: np.ndarray) -> np.ndarray:
        """Pick and standardise this model's inputs from rows of the input table."""
        picked = np.asarray(table, dtype=np.float32)[:, list(self.columns)]
        picked[:, :N_FEATURES] = self.scaler(picked[:, :N_FEATURES])
        return picked

    def predict(self, table: np.ndarray) -> np.ndarray:
        """Map rows of the input table to (N,) float64 VMAF, not clipped."""
        with torch.no_grad():
            score = self.model(torch.from_numpy(self.inputs(table)))
        return score.squeeze(1).numpy().astype(np.float64)


def new_model(width: int, recipe: Recipe, seed: int) -> FRRegressor:
    """Return a model with PyTorch's default initialisation from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return FRRegressor(width, recipe.hidden, recipe.dropout)


def train_batch(
    table: np.ndarray,
    target: np.ndarray,
    jobs: Sequence[Job],
    recipe: Recipe,
    device: str,
    tick: Callable[[float, float], None],
) -> list[Trained]:
    """Train jobs that see the same columns, together, on one core or one GPU.

    Parameters
    ----------
    table : (N, C) float32
    target : (N,) float32
    jobs : sequence of Job
    recipe : Recipe
    device : {"cpu", "cuda"}
    tick : callable
        Called now and then with the number of models done so far, parts of models included, and
        the mean MSE of the last step.

    Returns
    -------
    list of Trained, in the order of `jobs`.
    """
    # Those that finish first stand last, where they can leave without moving the others.
    order = sorted(range(len(jobs)), key=lambda i: -training_rows(jobs[i], recipe))
    # Products this small only lose by being shared out, and oneDNN's GELU costs more to call than
    # to compute.
    with threadpool_limits(1), _without_onednn(), torch.no_grad():
        run = _Run(table, target, [jobs[i] for i in order], recipe, device)
        trained = run.train(tick)
    return [trained[order.index(i)] for i in range(len(jobs))]


def training_rows(job: Job, recipe: Recipe) -> int:
    """Return how many rows an epoch of this job has, those that are made included."""
    real = int(np.count_nonzero(job.rows))
    return real + made_count(real, recipe.made_per_row)


def _with_made(
    table: np.ndarray, target: np.ndarray, jobs: Sequence[Job], recipe: Recipe
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Return inputs (a last column of ones for the bias), targets, and the rows of every job.

    Rows made for a job stand behind the real ones, and no other job sees them.
    """
    made = [
        made_rows(table[job.rows], recipe.made_per_row, job.seed) if recipe.made_per_row else None
        for job in jobs
    ]
    columns = list(jobs[0].columns)
    parts = [table[:, columns], *(rows[:, columns] for rows, _ in filter(None, made))]
    inputs = np.ones((sum(map(len, parts)), len(columns) + 1), dtype=np.float32)
    np.concatenate(parts, out=inputs[:, :-1])
    targets = np.concatenate([target, *(labels for _, labels in filter(None, made))])
    rows, at = [], len(table)
    for job, extra in zip(jobs, made, strict=True):
        count = len(extra[1]) if extra else 0
        # Half as wide as numpy's own: of many millions of rows, these are what takes memory.
        own = np.concatenate([np.flatnonzero(job.rows), np.arange(at, at + count)])
        rows.append(own.astype(np.int32))
        at += count
    return inputs, targets, rows


@contextmanager
def _without_onednn() -> Iterator[None]:
    usual = torch.backends.mkldnn.enabled
    torch.backends.mkldnn.enabled = False
    try:
        yield
    finally:
        torch.backends.mkldnn.enabled = usual


class _Run:
    """The training of one batch, from initialisation to finished models; most rows first."""

    def __init__(
        self,
        table: np.ndarray,
        target: np.ndarray,
        jobs: Sequence[Job],
        recipe: Recipe,
        device: str,
    ):
        inputs, target, rows = _with_made(table, target, jobs, recipe)
        # Scalers and constant columns are the real rows' alone.
        self.raw, self.jobs, self.recipe = inputs[: len(table)], jobs, recipe
        self.inputs = torch.from_numpy(inputs).to(device)
        self.target = torch.from_numpy(target).to(device)
        width = inputs.shape[1] - 1
        self.models = [new_model(width, recipe, job.seed) for job in jobs]
        self.scalers = [Scaler.fit(self.raw[:, :N_FEATURES][job.rows]) for job in jobs]
        self.stack = _Stack(width, recipe.hidden, len(jobs), device)
        # One each: what a model drops does not depend on its neighbours in the batch.
        self.droppers = [np.random.default_rng([job.seed, 1]) for job in jobs]
        self.feeds = [
            _Feed(own, job.seed, recipe.batch) for own, job in zip(rows, jobs, strict=True)
        ]
        self.totals = [feed.per_epoch * recipe.epochs for feed in self.feeds]

    def train(self, tick: Callable[[float, float], None]) -> list[Trained]:
        for i, model in enumerate(self.models):
            self.stack.put(i, model)
        losses = [math.nan] * len(self.jobs)
        step, active = 0, len(self.jobs)
        while active:
            net = _Net(self.stack, self.recipe, self.totals[:active])
            # All that are active have this many steps to go; then the shortest ones leave.
            end = self.totals[active - 1]
            while step < end:
                chunk = min(CHUNK, end - step)
                net.steps(*self._gather(active, chunk), self._masks(active, chunk), step)
                step += chunk
                losses[:active] = net.last_loss().tolist()
                done = sum(min(1.0, step / total) for total in self.totals)
                tick(done, sum(losses[:active]) / active)
            left = sum(total > step for total in self.totals)
            for i in range(left, active):
                self.stack.get(i, self.models[i])
            self.stack, active = self.stack.first(left), left
        return [
            Trained(self._finished(i), self.scalers[i], job.columns, losses[i])
            for i, job in enumerate(self.jobs)
        ]

    def _gather(self, active: int, chunk: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return standardised inputs, targets and loss weights: (chunk, active, batch, ...)."""
        drawn = [feed.take(chunk) for feed in self.feeds[:active]]
        device = self.inputs.device
        rows = torch.from_numpy(np.stack([d[0] for d in drawn], axis=1)).to(device)
        weights = torch.from_numpy(np.stack([d[1] for d in drawn], axis=1)).to(device)
        x = self.inputs.index_select(0, rows.flatten()).view(*rows.shape, -1)
        y = self.target.index_select(0, rows.flatten()).view(*rows.shape, 1)
        mean, std = (
            torch.from_numpy(np.stack([getattr(s, name) for s in self.scalers[:active]]))
            for name in ("mean", "std")
        )
        x[..., :N_FEATURES].sub_(mean[:, None].to(device)).div_(std[:, None].to(device))
        return x, y, weights.unsqueeze(-1)

    def _masks(self, active: int, chunk: int) -> Tensor | None:
        """Return (chunk, 2, active, batch, hidden) factors of hidden units: 0 or 1 / (1 - p)."""
        p, shape = self.recipe.dropout, (chunk, 2, self.recipe.batch, self.recipe.hidden)
        if not p:
            return None
        masks = np.empty((chunk, 2, active, *shape[2:]), dtype=np.float32)
        for i, rng in enumerate(self.droppers[:active]):
            # Bare random bits, as drawing 0 or 1 by a distribution takes as long as a whole step.
            bits = np.frombuffer(rng.bytes(4 * math.prod(shape)), dtype=np.uint32).reshape(shape)
            kept = bits < np.uint32((1 - p) * 2**32)
            np.multiply(kept, np.float32(1 / (1 - p)), out=masks[:, :, i])
        return torch.from_numpy(masks).to(self.inputs.device)

    def _finished(self, i: int) -> FRRegressor:
        model = self.models[i].eval()
        if self.recipe.fold_constants:
            fold_constant_columns(model, self.raw[:, N_FEATURES:-1][self.jobs[i].rows])
        return model


class _Feed:
    """Row numbers and loss weights of every step, for one model, in its own shuffled epochs."""

    def __init__(self, rows: np.ndarray, seed: int, batch: int):
        self.rows, self.batch = rows, batch
        self.rng = np.random.default_rng(seed)
        self.per_epoch = math.ceil(len(self.rows) / batch)
        self.left = np.empty((0, batch), dtype=np.int32)
        pad = self.per_epoch * batch - len(self.rows)
        self.pad = np.repeat(self.rows[:1], pad)
        self.weights = np.full((self.per_epoch, batch), 1.0 / batch, dtype=np.float32)
        if pad:
            # Padded places count for nothing, and the rest form the mean of a shorter batch.
            self.weights[-1] = np.where(np.arange(batch) < batch - pad, 1.0 / (batch - pad), 0.0)
        self.at = 0

    def take(self, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (steps, batch) row numbers and weights, and move on."""
        while len(self.left) < steps:
            order = np.concatenate([self.rng.permutation(self.rows), self.pad])
            self.left = np.concatenate([self.left, order.reshape(-1, self.batch)])
        taken, self.left = self.left[:steps], self.left[steps:]
        weights = self.weights[(self.at + np.arange(steps)) % self.per_epoch]
        self.at += steps
        return taken, weights


class _Stack:
    """Weights of several models, their gradients and Adam moments: a line each, one per model."""

    def __init__(self, width: int, hidden: int, models: int, device: str):
        # The first layer's bias is the last row of its weights.
        self.shapes = ((width + 1, hidden), (hidden, hidden), (1, hidden), (hidden, 1), (1, 1))
        self.offsets, end = [], 0
        for shape in self.shapes:
            self.offsets.append(end)
            end += math.ceil(math.prod(shape) / ALIGNED) * ALIGNED
        self.lines = tuple(torch.zeros(4, models, end, device=device))

    def cut(self, lines: Tensor) -> list[Tensor]:
        """Return the layers in (models, size) lines, as (models, rows, columns) each."""
        return [
            lines[:, at : at + math.prod(shape)].unflatten(1, shape)
            for at, shape in zip(self.offsets, self.shapes, strict=True)
        ]

    def _pairs(self, i: int, model: FRRegressor) -> list[tuple[Tensor, Tensor]]:
        first, w2, b2, w3, b3 = (layer[i] for layer in self.cut(self.lines[0]))
        mine = (first[:-1].T, first[-1], w2.T, b2[0], w3.T, b3[0])
        return list(zip(mine, model.parameters(), strict=True))

    def put(self, i: int, model: FRRegressor) -> None:
        for mine, theirs in self._pairs(i, model):
            mine.copy_(theirs)

    def get(self, i: int, model: FRRegressor) -> None:
        for mine, theirs in self._pairs(i, model):
            theirs.copy_(mine)

    def first(self, models: int) -> _Stack:
        """Return the first `models` models of this stack, in place."""
        part = object.__new__(_Stack)
        part.shapes, part.offsets = self.shapes, self.offsets
        part.lines = tuple(lines[:models] for lines in self.lines)
        return part


class _Net:
    """Forward, backward and Adam for a stack; every buffer is made once."""

    def __init__(
        self,
        stack: _Stack,
        recipe: Recipe,
        totals: Sequence[int],
    ):
        self.recipe = recipe
        params = stack.lines[0]
        self.models, device = len(params), params.device
        on_cpu = device.type == "cpu"
        # numpy's product of many small matrices has less overhead than torch's, and the result for
        # one of them is the same in any company. The buffers are shared, so either may fill them.
        self.product = np.matmul if on_cpu else torch.bmm
        self.share: Callable[[Tensor], Tensor | np.ndarray] = Tensor.numpy if on_cpu else _itself
        self._buffers(stack, device)
        # Models with as many steps to go have the same learning rate, whatever the schedule.
        starts = [i for i in range(self.models) if i == 0 or totals[i] != totals[i - 1]]
        if recipe.schedule == "constant":
            starts = [0]
        self.parts = [
            ([[lines[a:b]] for lines in stack.lines], totals[a])
            for a, b in pairwise([*starts, self.models])
        ]

    def _buffers(self, stack: _Stack, device: torch.device) -> None:
        share, shape = self.share, (self.models, self.recipe.batch, self.recipe.hidden)
        _, _, self.b2, self.w3, self.b3 = weights = stack.cut(stack.lines[0])
        self.w = [share(w) for w in weights]
        self.g = [share(g) for g in stack.cut(stack.lines[1])]
        # Before and after both GELUs, and what comes back to them.
        self.h, self.a, self.back = torch.empty(3, 2, *shape, device=device)
        self.out, self.residual, self.gout = torch.empty(3, *shape[:2], 1, device=device)
        self.one_row = share(torch.ones(self.models, 1, self.recipe.batch, device=device))
        self.h_, self.a_, self.back_ = (
            [share(t) for t in pair] for pair in (self.h, self.a, self.back)
        )
        self.out_, self.gout_ = share(self.out), share(self.gout)

    def steps(self, x: Tensor, y: Tensor, weight: Tensor, masks: Tensor | None, first: int) -> None:
        """Take one step for each entry of the leading axis; the first one has number `first`."""
        self.weight = weight[-1]
        numbers = torch.arange(first + 1, first + 1 + len(x), device=x.device).float()
        slopes = (2.0 * weight).unbind()
        bounds = _bounds(y) if self.recipe.censored else [None] * len(x)
        each = zip(self.share(x), y.unbind(), slopes, bounds, numbers.unbind(), strict=True)
        for k, (inputs, target, slope, bound, number) in enumerate(each):
            self._step(inputs, target, slope, bound, None if masks is None else masks[k])
            self._adam(first + k, number)

    def _step(
        self,
        x: Tensor | np.ndarray,
        y: Tensor,
        slope: Tensor,
        bounds: tuple[Tensor, Tensor] | None,
        masks: Tensor | None,
    ) -> None:
        """Leave the gradients of the weighted mean square in the stack.

        `slope` is the derivative of a row's share in it by the row's residual, per residual;
        `bounds` are the least and the greatest residual that counts.
        """
        product, h, a, back = self.product, self.h_, self.a_, self.back_
        first, w2, _, w3, _ = self.w
        g_first, gw2, gb2, gw3, gb3 = self.g
        gelu, gelu_backward = torch.ops.aten.gelu.out, torch.ops.aten.gelu_backward.grad_input
        product(x, first, out=h[0])
        gelu(self.h[0], out=self.a[0])
        if masks is not None:
            self.a[0].mul_(masks[0])
        product(a[0], w2, out=h[1])
        self.h[1].add_(self.b2)
        gelu(self.h[1], out=self.a[1])
        if masks is not None:
            self.a[1].mul_(masks[1])
        product(a[1], w3, out=self.out_)
        torch.sub(self.out.add_(self.b3), y, out=self.residual)
        if bounds is not None:
            torch.clamp(self.residual, *bounds, out=self.residual)
        torch.mul(self.residual, slope, out=self.gout)
        product(a[1].swapaxes(1, 2), self.gout_, out=gw3)
        product(self.one_row, self.gout_, out=gb3)
        torch.mul(self.gout, self.w3.transpose(1, 2), out=self.back[1])
        if masks is not None:
            self.back[1].mul_(masks[1])
        gelu_backward(self.back[1], self.h[1], grad_input=self.back[1])
        product(a[0].swapaxes(1, 2), back[1], out=gw2)
        product(self.one_row, back[1], out=gb2)
        product(back[1], w2.swapaxes(1, 2), out=back[0])
        if masks is not None:
            self.back[0].mul_(masks[0])
        gelu_backward(self.back[0], self.h[0], grad_input=self.back[0])
        product(x.swapaxes(1, 2), back[0], out=g_first)

    def _adam(self, t: int, number: Tensor) -> None:
        """Adam with torch's defaults and L2 decay in the gradient, by torch's fused kernel.

        It is what ``torch.optim.Adam(fused=True)`` calls, without the optimiser's bookkeeping.
        """
        for state, total in self.parts:
            torch._fused_adam_(
                *state,
                [],
                [number],
                lr=self._rate(t, total),
                beta1=0.9,
                beta2=0.999,
                weight_decay=self.recipe.weight_decay,
                eps=1e-8,
                amsgrad=False,
                maximize=False,
            )

    def _rate(self, t: int, total: int) -> float:
        """Return the learning rate at step `t` of `total`."""
        if self.recipe.schedule == "constant":
            return self.recipe.lr
        return self.recipe.lr * 0.5 * (1 + math.cos(math.pi * t / total))

    def last_loss(self) -> Tensor:
        """Return the MSE of the last step, (models,)."""
        return (self.residual.square() * self.weight).sum(dim=(1, 2))


def _bounds(y: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return, step by step, the residuals that count: none beyond an end of the scale."""
    least = torch.where(y <= VMAF_RANGE[0], 0.0, -math.inf)
    greatest = torch.where(y >= VMAF_RANGE[1], 0.0, math.inf)
    return list(zip(least.unbind(), greatest.unbind(), strict=True))


def _itself(tensor: Tensor) -> Tensor:
    return tensor
