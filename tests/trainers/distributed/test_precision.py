"""Recomputed activations and compiled passes are the same function; what a device cannot is said."""

from __future__ import annotations

import copy

import pytest
import torch

from tests.support.batches import text_batch
from tests.support.sequence_tasks import CPU, kind_of, tiny_model, tiny_task, without_dropout
from trainers.config.compute import Precision
from trainers.config.weight_averaging import WeightAveragingConfig
from trainers.distributed.precision import enable_gradient_checkpointing, resolve_precision, set_float32_products, try_compile
from trainers.engine.step import StepConfig, TrainStep
from trainers.optim import OptimConfig
from trainers.tasks.device_batch import DeviceBatch, to_device


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [((7, 0), torch.float16), ((7, 5), torch.float16), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)],
)
def test_auto_is_what_a_gpu_is_good_at(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    assert resolve_precision("auto", torch.device("cuda", 0)) == dtype
    assert resolve_precision("fp32", torch.device("cuda", 0)) == resolve_precision("auto", CPU) == torch.float32


def test_fp32_is_full_precision_and_tf32_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    places = [(torch.backends.cuda.matmul, "allow_tf32"), (torch.backends.cudnn, "allow_tf32")]
    for place, name in places:
        monkeypatch.setattr(place, name, getattr(place, name))  # as it was, in the end
    choices: list[tuple[Precision, bool]] = [("tf32", True), ("fp32", False), ("tf32", True), ("auto", False)]
    for precision, allowed in choices:
        set_float32_products(precision)
        assert [getattr(place, name) for place, name in places] == [allowed, allowed]
    assert resolve_precision("tf32", CPU) == torch.float32


@pytest.mark.parametrize("kind", ["small", "both_directions", "comer", "rnn", "vit"])
def test_recomputed_activations_give_the_same_steps(kind: str) -> None:
    plain, task = kind_of(kind)
    recomputed = copy.deepcopy(plain)
    assert enable_gradient_checkpointing(recomputed) >= 1
    batch = to_device(text_batch(["a b c d", "b"]), CPU)
    images = torch.randint(0, 256, (2, 1, 64, 128), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    batch = DeviceBatch(images, torch.tensor([[64, 128], [49, 90]]), batch.targets, batch.weights)
    averaging = StepConfig(weight_averaging=WeightAveragingConfig("ema", decay=0.5))
    steps = [TrainStep(network, task, OptimConfig(), 4, CPU, averaging) for network in (plain, recomputed)]
    for _ in range(3):  # dropout draws the same again in the backward pass
        one, other = (step(batch) for step in steps)
        assert float(one.loss_sum) == pytest.approx(float(other.loss_sum), rel=1e-5)
        assert float(one.grad_norm) == pytest.approx(float(other.grad_norm), rel=1e-4)
    for name, value in plain.state_dict().items():
        # BatchNorm counts the pass that is made again: its running statistics alone may differ.
        if "running" not in name and "num_batches" not in name:
            torch.testing.assert_close(recomputed.state_dict()[name], value, rtol=1e-3, atol=1e-5, msg=name)
    texts = [task.predict(step.averaging.network.eval(), images, batch.sizes) for step in steps]  # type: ignore[arg-type]
    assert len(texts[0]) == len(texts[1]) == 2


def test_fewer_activations_are_kept() -> None:
    """Counted by what autograd saves: bytes between the forward and the backward pass."""

    def saved(recompute: bool) -> int:
        model, task = kind_of("small")
        if recompute:
            enable_gradient_checkpointing(model)
        total = 0

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal total
            total += tensor.numel() * tensor.element_size()
            return tensor

        images = torch.zeros((4, 1, 64, 256), dtype=torch.uint8)
        batch = to_device(text_batch(["a", "b", "c", "d"]), CPU)
        batch = DeviceBatch(images, torch.tensor([[64, 256]]).expand(4, -1), batch.targets, batch.weights)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            task.loss_sum(model.train(), batch)
        return total

    assert saved(recompute=True) < saved(recompute=False) / 3


@pytest.mark.slow
def test_a_compiled_pass_takes_the_same_steps() -> None:
    plain, network = (without_dropout(tiny_model()) for _ in range(2))  # a compiled pass draws other random numbers
    assert try_compile(network, CPU) == "", "this machine has a compiler"
    batches = [to_device(text_batch(texts), CPU) for texts in (["a b", "c"], ["a b c d", "b"], ["a", "d c"])]
    steps = [TrainStep(model, tiny_task(), OptimConfig(), 4, CPU) for model in (plain, network)]
    for batch in batches:  # of several lengths
        one, other = (float(step(batch).loss_sum) for step in steps)
        assert one == pytest.approx(other, rel=1e-4)
    assert network.state_dict().keys() == plain.state_dict().keys()


@pytest.mark.parametrize("after_another", [False, True])
def test_a_device_that_cannot_compile_says_so_in_a_sentence(monkeypatch: pytest.MonkeyPatch, after_another: bool) -> None:
    # As another run leaves it in the same process: parts that cannot be compiled run as they are.
    monkeypatch.setattr(torch._dynamo.config, "suppress_errors", after_another)
    monkeypatch.setenv("CXX", "/nowhere/compiler")
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", (None, "/nowhere/compiler"), raising=False)
    torch._dynamo.reset()
    network = tiny_model()
    reason = try_compile(network, CPU)
    assert reason.startswith("compute.compile is left out: this device cannot (") and "\n" not in reason
    assert network._compiled_call_impl is None, "it stays as it is"
