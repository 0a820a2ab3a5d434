"""Which positions are fed with sampled tokens: schedules, coins, and the step that uses them."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from models.config import CtcHeadName, RnnConfig
from tests.support.batches import BRACES, rows_of, text_batch
from tests.support.configurations import TINY, tiny_small
from tests.support.gloo_ranks import TwoRanks
from tests.support.sequence_tasks import CPU, network_of
from trainers.config.load import ConfigError, load_config
from trainers.config.optim import OptimConfig
from trainers.config.scheduled_sampling import SamplingMode, ScheduledSamplingConfig
from trainers.engine.step import TrainStep
from trainers.tasks.base import Progress
from trainers.tasks.device_batch import DeviceBatch, to_device
from trainers.tasks.losses import LossConfig
from trainers.tasks.scheduled_sampling import MODES, SCHEDULES, sampled_tokens, truth_ratio
from trainers.tasks.sequence import SequenceTask

TARGETS = torch.randint(3, 9, (4, 31), generator=torch.Generator().manual_seed(0))
STEPS = range(400)
SAMPLING = ScheduledSamplingConfig("per_step", 0.5, passes=2)
LOSS = LossConfig("focal_cosine")


def test_constant_and_linear() -> None:
    assert [truth_ratio(ScheduledSamplingConfig("per_batch", 0.8), step, 5) for step in range(5)] == [0.8] * 5
    linear = ScheduledSamplingConfig("per_batch", 0.9, "linear", 0.1)
    assert [truth_ratio(linear, step, 5) for step in range(5)] == pytest.approx([0.9, 0.7, 0.5, 0.3, 0.1])


def test_inverse_sigmoid_is_that_of_bengio_et_al() -> None:
    # k / (k + exp(i / k)) at i = 0 .. 2 k log k, stretched from between k / (k + 1) and 1 / (k + 1) to between 1 and 0.
    k, total = 20.0, 101
    config = ScheduledSamplingConfig("per_batch", 1.0, "inverse_sigmoid", 0.2, steepness=k)
    for step in range(total):
        i = step / (total - 1) * 2 * k * math.log(k)
        raw = k / (k + math.exp(i / k))
        expected = 0.2 + 0.8 * (raw - 1 / (k + 1)) / (k / (k + 1) - 1 / (k + 1))
        assert truth_ratio(config, step, total) == pytest.approx(expected, rel=1e-9)
    assert truth_ratio(config, 50, total) == pytest.approx(0.6), "half of the way in the middle of the run"


@given(
    schedule=st.sampled_from(list(SCHEDULES)),
    ratio=st.floats(0, 1),
    end=st.floats(0, 1),
    steepness=st.floats(1.001, 1e6),
    total=st.integers(1, 1000),
)
def test_a_schedule_goes_steadily_from_one_ratio_to_the_other(
    schedule: str, ratio: float, end: float, steepness: float, total: int
) -> None:
    config = ScheduledSamplingConfig("per_token", ratio, schedule, end, steepness)  # type: ignore[arg-type]
    values = [truth_ratio(config, step, total) for step in range(total + 2)]
    assert values[0] == pytest.approx(ratio, abs=1e-9)
    last = ratio if schedule == "constant" or total == 1 else end
    assert values[total - 1] == pytest.approx(last, abs=1e-9)
    steps = [after - before for before, after in itertools.pairwise(values[:total])]
    assert all(step * (end - ratio) >= -1e-9 for step in steps)


@pytest.mark.parametrize("mode", MODES)
def test_the_truth_alone_where_the_ratio_is_one(mode: SamplingMode) -> None:
    state = torch.random.get_rng_state()
    assert all(sampled_tokens(ScheduledSamplingConfig(mode, 1.0), step, 400, TARGETS, 0) is None for step in STEPS)
    assert torch.equal(state, torch.random.get_rng_state()), "nothing is drawn that dropout would miss"


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "always"])
def test_nothing_but_bos_where_the_ratio_is_zero(mode: SamplingMode) -> None:
    sampled = sampled_tokens(ScheduledSamplingConfig(mode, 0.0, passes=3), 7, 400, TARGETS, 0)
    assert sampled is not None and sampled.passes == 3 and sampled.mask.dtype == torch.bool
    assert sampled.mask.shape == (4, 30) and not sampled.mask[:, 0].any() and sampled.mask[:, 1:].all()


def shares(mode: SamplingMode, seed: int = 0) -> torch.Tensor:
    """The masks of some steps (steps, 4, 30), with a ratio of 0.7."""
    drawn = [sampled_tokens(ScheduledSamplingConfig(mode, 0.7), step, 400, TARGETS, seed) for step in STEPS]
    return torch.stack([torch.zeros(4, 30, dtype=torch.bool) if sampled is None else sampled.mask for sampled in drawn])


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "always"])
def test_the_share_of_sampled_tokens_is_what_is_left_of_the_ratio(mode: SamplingMode) -> None:
    torch.manual_seed(0)
    masks = shares(mode)[:, :, 1:]
    assert float(masks.float().mean()) == pytest.approx(0.3, abs=0.08 if mode == "per_batch" else 0.02)
    rows_alike = bool((masks == masks[:, :1]).all())
    positions_alike = bool((masks == masks[:, :, :1]).all())
    assert (rows_alike, positions_alike) == {
        "per_batch": (True, True),
        "per_step": (True, False),
        "per_token": (False, False),
    }[mode]


@pytest.mark.parametrize("mode", ["per_batch", "per_step"])
def test_all_ranks_toss_the_same_coins_for_texts_of_any_length(mode: SamplingMode) -> None:
    ours = shares(mode)
    torch.manual_seed(99)  # another rank's
    assert torch.equal(ours, shares(mode)), "they follow from the seed and the step"
    assert not torch.equal(ours, shares(mode, seed=1))
    for step in STEPS[:40]:
        short = sampled_tokens(ScheduledSamplingConfig(mode, 0.7), step, 400, TARGETS[:2, :12], 0)
        expected = ours[step, :2, :11]
        assert torch.equal(expected, torch.zeros_like(expected) if short is None else short.mask)


def test_tokens_are_drawn_from_the_state_of_the_step() -> None:
    masks = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        sampled = sampled_tokens(ScheduledSamplingConfig("per_token", 0.5), 3, 10, TARGETS, 0)
        assert sampled is not None
        masks.append(sampled.mask)
    assert torch.equal(masks[0], masks[1]) and not torch.equal(masks[0], masks[2])


@pytest.mark.parametrize(
    ("config", "parts"),
    [
        (ScheduledSamplingConfig("per_batch", 1.2), ["scheduled_sampling.ratio=1.2", "from 0 to 1"]),
        (ScheduledSamplingConfig("per_batch", end_ratio=-0.1), ["scheduled_sampling.end_ratio=-0.1", "from 0 to 1"]),
        (ScheduledSamplingConfig("per_batch", 0.5, steepness=1.0), ["scheduled_sampling.steepness=1.0", "above 1"]),
        (ScheduledSamplingConfig("per_batch", 0.5, passes=0), ["scheduled_sampling.passes=0", "at least 1"]),
        (ScheduledSamplingConfig(ratio=0.5), ["scheduled_sampling.ratio=0.5", "scheduled_sampling.mode", "per_step"]),
        (
            ScheduledSamplingConfig(schedule="linear"),
            ["scheduled_sampling.schedule=linear", "scheduled_sampling.mode", "per_token"],
        ),
    ],
)
def test_bad_values_are_named(config: ScheduledSamplingConfig, parts: list[str]) -> None:
    (message,) = config.validate()
    assert all(part in message for part in parts), message
    assert ScheduledSamplingConfig().validate() == ScheduledSamplingConfig("per_step", 0.8, "linear").validate() == []


def test_the_configuration_of_a_run_is_checked() -> None:
    config = load_config(None, ["scheduled_sampling.mode=per_step", "scheduled_sampling.ratio=0.8", "loss.name=focal"])
    assert (config.scheduled_sampling.mode, config.scheduled_sampling.ratio, config.loss.name) == ("per_step", 0.8, "focal")
    for override, part in (
        ("scheduled_sampling.ratio=2", "scheduled_sampling.ratio=2"),
        ("loss.focal_alpha=0", "loss.focal_alpha=0"),
    ):
        with pytest.raises(ConfigError, match=part):
            load_config(None, [override])
    with pytest.raises(ConfigError, match=r"'scheduled_sampling\.mode'.*per_coin.*per_batch"):
        load_config(None, ["scheduled_sampling.mode=per_coin"])


def losses(sampling: ScheduledSamplingConfig, decoder: str) -> list[float]:
    config = tiny_small()
    config.decoder.name = decoder  # type: ignore[assignment]
    task = SequenceTask(BRACES, 8, network=config, sampling=sampling)
    batch = to_device(text_batch(["a b { a }", "a", "b b a b"], tokenizer=BRACES, size=(64, 64)), CPU)
    step = TrainStep(network_of(task), task, OptimConfig(), 4, CPU)
    return [float(step(batch).loss_sum) for _ in range(4)]


@pytest.mark.parametrize("decoder", ["transformer", "rnn"])
def test_a_step_is_the_same_to_the_bit_at_ratio_one_and_another_below(decoder: str) -> None:
    plain = losses(ScheduledSamplingConfig(), decoder)
    for mode in ("per_batch", "per_step", "per_token"):
        assert losses(ScheduledSamplingConfig(mode, 1.0), decoder) == plain
        free = losses(ScheduledSamplingConfig(mode, 0.0), decoder)
        assert all(math.isfinite(loss) for loss in free) and free != plain
        assert free == losses(ScheduledSamplingConfig(mode, 0.0), decoder), "a run repeats itself"


def uneven(rows: slice) -> DeviceBatch:
    """Some of three samples whose texts differ in length, padded as a rank that holds them alone would."""
    batch = rows_of(text_batch(["a b { a } b", "a b", "b b a"], tokenizer=BRACES, size=(64, 64)), rows)
    tokens = batch.targets["tokens"]
    tokens = tokens[:, : int((tokens != BRACES.pad_id).sum(1).max())]
    return to_device(dataclasses.replace(batch, targets={"tokens": tokens}), CPU)


def every_head(decoder: str, ctc: CtcHeadName = "linear") -> SequenceTask:
    """A network without what a sample has from others of its batch, and without dropout."""
    config = TINY["seq2seq_light"]()
    config.backbone.convnet6.drop_rate = config.decoder.mlp_drop_rate = 0.0
    config.decoder.rnn = RnnConfig(hidden_dim=16, attention_dim=12)
    config.decoder.name = decoder  # type: ignore[assignment]
    config.decoder.direction, config.ctc.head = "both", ctc
    config.counting.head, config.structure.head = "linear", "nesting"
    return SequenceTask(BRACES, 12, network=config, loss=LOSS)


def coins(seed: int) -> list[bool]:
    """Of the positions of the first step after BOS."""
    sampled = sampled_tokens(SAMPLING, 0, 4, TARGETS[:, :5], seed)
    return [False] * 3 if sampled is None else sampled.mask[0, 1:].tolist()


# That a rank with a seed of its own would toss other coins is seen at each position.
SEED = next(seed for seed in range(1000) if all(coins(seed)) and not any(coins(seed + 1)))


def first_step(
    model: nn.Module, task: SequenceTask, batch: DeviceBatch, sampling: ScheduledSamplingConfig, rank: int = 0
) -> dict[str, np.ndarray]:
    """The gradients of a step."""
    task = dataclasses.replace(task, sampling=sampling)
    step = TrainStep(model, task, OptimConfig(), 4, CPU, seed=SEED, rank=rank)
    step(batch)
    found = {name: p.grad.numpy().copy() for name, p in step.network.named_parameters() if p.grad is not None}
    step(batch)  # DDP stops at the second step where the first has left a parameter without a gradient
    return found


def _first_steps(rank: int) -> dict[str, dict[str, np.ndarray]]:
    batch, found = uneven(slice(0, 1) if rank == 0 else slice(1, 3)), {}
    for decoder in ("transformer", "rnn"):
        task = every_head(decoder)
        found[decoder] = first_step(DistributedDataParallel(network_of(task)), task, batch, SAMPLING, rank)
    return found


def test_two_ranks_with_sampled_tokens_and_every_head_take_the_step_of_one(two_ranks: TwoRanks) -> None:
    for decoder, found in two_ranks(_first_steps)[0].items():
        task, whole = every_head(decoder), uneven(slice(0, 3))
        expected = first_step(network_of(task), task, whole, SAMPLING)
        forced = first_step(network_of(task), task, whole, ScheduledSamplingConfig())
        assert expected.keys() == found.keys() == dict(network_of(task).named_parameters()).keys()
        assert any(not np.allclose(expected[name], forced[name], rtol=1e-2) for name in expected), "sampled tokens were read"
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "always"])
def test_no_value_is_asked_of_the_device(mode: SamplingMode) -> None:
    # Tensors on the meta device have no values: to ask for one, as bool() and item() do, is an error there.
    meta = torch.device("meta")
    whole = uneven(slice(0, 3))
    targets = {name: tensor.to(meta) for name, tensor in whole.targets.items()}
    batch = DeviceBatch(whole.images.to(meta), whole.sizes.to(meta), targets, whole.weights.to(meta))
    sampling = ScheduledSamplingConfig(mode, 0.0)
    sampled = sampled_tokens(sampling, 0, 4, batch.targets["tokens"], 0)
    assert sampled is not None and sampled.mask.is_meta
    for loss in (LossConfig("focal_cosine", normalize_logits=True), LossConfig("cosine", ignore_padding=False), LossConfig()):
        # Torch has no CTC loss there, and no autocast, which a transformer turns to for its own tokens.
        for decoder, progress in (("transformer", None), ("rnn", Progress(0, 4, 0))):
            task = dataclasses.replace(every_head(decoder, ctc="none"), loss=loss, sampling=sampling)
            assert task.loss_sum(network_of(task).to(meta), batch, progress).is_meta
            assert task.target_count(batch).is_meta
