"""Comparisons of training: losses, weights and gradients of two ways to do the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from benchmarks.gpu_parts.scene import BatchPair
from trainers.distributed.precision import set_float32_products
from trainers.engine.step import TrainStep


def losses(step: TrainStep, batches: Sequence[BatchPair], steps: int) -> list[float]:
    """Loss per target of so many steps over `batches`, again and again."""
    results = [step(batches[number % len(batches)][1]) for number in range(steps)]
    return torch.stack([result.loss_sum / result.target_count for result in results]).tolist()


def furthest(a: Sequence[float], b: Sequence[float]) -> float:
    """The largest relative difference of two curves."""
    return max(abs(x - y) / abs(x) for x, y in zip(a, b, strict=True))


def planned(step: TrainStep, steps: int, peak: float = 2e-3) -> TrainStep:
    """The step with the schedule of a run of `steps`."""
    step.schedule._total_steps = steps
    step.schedule.peak = peak
    return step


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """A copy of all weights and statistics."""
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def gradients_of(network: nn.Module) -> dict[str, Tensor]:
    """A copy of all gradients."""
    return {name: p.grad.detach().clone() for name, p in network.named_parameters() if p.grad is not None}


def difference(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    """‖a - b‖ / ‖b‖ over all floating tensors as one vector; 0 is equality to the bit.

    Not tensor by tensor: a bias before a norm has no gradient but rounding, of which Adam makes steps as large as any.
    """
    apart, whole = (sum(squares) for squares in zip(*_squares(a, b).values(), strict=True))
    return float((apart / max(whole, 1e-30)) ** 0.5)


def within_noise(far: float, noise: float) -> bool:
    """Whether a difference is no more than what two runs of the same differ by, times 10; without any, it has to be 0."""
    return far <= (max(10 * noise, 1e-3) if noise else 0.0)


def apart(a: Mapping[str, Tensor], b: Mapping[str, Tensor], start: Mapping[str, Tensor]) -> float:
    """‖a - b‖ / ‖b - start‖: how far two ways have come apart, as a share of the way that they went from `start`."""
    way = {name: value - start[name].to(value.device) for name, value in b.items() if value.is_floating_point()}
    other = {name: a[name].to(value.device) - start[name].to(value.device) for name, value in b.items() if name in way}
    return difference(other, way)


def where_most(a: Mapping[str, Tensor], b: Mapping[str, Tensor], count: int = 3) -> str:
    """The tensors that make up most of the difference, each with its share of the squares."""
    squares = _squares(a, b)
    total = sum(apart for apart, _ in squares.values())
    first = sorted(squares, key=lambda name: -squares[name][0])[:count]
    return ", ".join(f"{name} {squares[name][0] / max(total, 1e-30):.0%}" for name in first)


def _squares(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> dict[str, tuple[float, float]]:
    found = {}
    for name, value in a.items():
        if value.is_floating_point():
            other = b[name].to(value.device).double()
            found[name] = float((value.double() - other).square().sum()), float(other.square().sum())
    return found


def in_words(far: float) -> str:
    """How large a difference is."""
    return "equal to the bit" if far == 0 else f"differ by {far:.1e}"


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Inside, products and convolutions of float32 may, or may not, be computed in TF32."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    set_float32_products("tf32" if allowed else "fp32")
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@contextmanager
def deterministic() -> Iterator[None]:
    """Inside, torch takes the same way each time, and says where it has none."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def without_dropout(network: nn.Module) -> None:
    """Switch off all that is dropped at random: ranks draw each for itself."""
    for module in network.modules():
        for name in ("p", "drop_prob", "drop_rate", "drop_path", "dropout", "attn_drop"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
