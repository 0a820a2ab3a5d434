"""An optimizer's state from a checkpoint, whatever device and memory format it was saved with."""

from __future__ import annotations

import pytest
import torch

from tests.support.batches import text_batch
from tests.support.sequence_tasks import tiny_model, tiny_task
from trainers.config.optim import OptimConfig
from trainers.engine.step import TrainStep
from trainers.tasks.device_batch import to_device

CPU = torch.device("cpu")


def steps(name: str = "adamw") -> tuple[TrainStep, TrainStep]:
    """Two steps of one network, of which the first has taken one."""
    first, second = (TrainStep(tiny_model(), tiny_task(), OptimConfig(name), 8, CPU) for _ in range(2))
    first(to_device(text_batch(["a b", "c d a"]), CPU))
    return first, second


@pytest.mark.parametrize("name", ["adamw", "sgd", "lamb"])
def test_its_tensors_get_the_strides_of_their_parameters(name: str) -> None:
    # The fused kernels of GPUs refuse moments of other strides; checkpoints hold contiguous tensors.
    first, second = steps(name)
    state = first.state_dict()
    kept = state["optimizer"]["state"]
    contiguous = {
        number: {key: value.contiguous() if torch.is_tensor(value) else value for key, value in entry.items()}
        for number, entry in kept.items()
    }
    second.load_state_dict(state | {"optimizer": state["optimizer"] | {"state": contiguous}})
    assert any(not parameter.is_contiguous() for parameter in second.network.parameters()), "the backbone is channels_last"
    before = {name: first.optimizer.state[parameter] for name, parameter in first.network.named_parameters()}
    for parameter_name, parameter in second.network.named_parameters():
        for key, value in second.optimizer.state[parameter].items():
            if torch.is_tensor(value) and value.shape == parameter.shape:
                assert value.stride() == parameter.stride(), (parameter_name, key)
                torch.testing.assert_close(value, before[parameter_name][key], rtol=0, atol=0)


def test_steps_are_computed_by_the_kernels_of_this_device() -> None:
    first, second = steps()
    state = first.state_dict()
    for group in state["optimizer"]["param_groups"]:  # as a GPU would have left it
        group.update(fused=True, foreach=None)
    second.load_state_dict(state)
    assert all(group["foreach"] and not group["fused"] for group in second.optimizer.param_groups)
    assert second.optimizer.param_groups[0]["lr"] == first.optimizer.param_groups[0]["lr"]
