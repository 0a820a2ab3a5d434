"""A small decoder whose logits depend on the image and on all tokens so far, and images for it, to test searches with.

Legend: B batch, R rows, T positions, S source positions, V vocabulary.
"""

import torch
from torch import Tensor

from models.decoders import Decoder, DecoderCache
from models.types import Memory, OutputSpec

WIDTH = 6
SMALL = OutputSpec(num_classes=5, bos_id=0, eos_id=1, pad_id=2, max_length=4)  # two letters
GROUPS = OutputSpec(num_classes=9, bos_id=0, eos_id=1, pad_id=2, max_length=10, open_ids=(3, 5), close_ids=(4, 6))


class RandomCache(DecoderCache):
    """The state (R, WIDTH) of each row."""

    def __init__(self, state: Tensor, source: Tensor, room: int) -> None:
        self.state = state
        self.source = source
        self.room = room

    def reorder(self, rows: Tensor) -> None:
        beams = len(self.state) // len(self.source)
        assert torch.equal(rows // beams, torch.arange(len(rows)) // beams), "a beam of another image"
        self.state = self.state[rows]


class RandomDecoder(Decoder):
    """A random recurrent network in double precision; counts its steps."""

    def __init__(self, spec: OutputSpec, seed: int = 0, sharpness: float = 3.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)

        def random(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        self.embedding, self.turn = random(spec.num_classes, WIDTH), random(WIDTH, WIDTH)
        self.head = sharpness * random(WIDTH, spec.num_classes)
        # Untrained decoders emit anything: specials less often than the rest keeps the texts apart from the limit.
        self.head[:, [spec.bos_id, spec.pad_id]] *= 0.1
        self.steps = 0

    def read(self, state: Tensor, tokens: Tensor) -> Tensor:
        return torch.tanh(state @ self.turn + self.embedding[tokens])

    def forward(self, tgt_in: Tensor, memory: Memory) -> Tensor:
        state, logits = memory.tokens.mean(1).double(), []
        for tokens in tgt_in.T:
            state = self.read(state, tokens)
            logits.append(state @ self.head)
        return torch.stack(logits, 1)

    def start(self, memory: Memory, max_length: int, beams: int = 1) -> RandomCache:
        state = memory.tokens.mean(1).double().repeat_interleave(beams, 0)
        return RandomCache(state, memory.tokens.double(), max_length)

    def step(self, tokens: Tensor, cache: DecoderCache, need_weights: bool = False) -> Tensor:
        assert isinstance(cache, RandomCache) and cache.room > 0, "more steps than there is room for"
        cache.room -= 1
        self.steps += 1
        cache.state = self.read(cache.state, tokens)
        if need_weights:
            source = cache.source.repeat_interleave(len(tokens) // len(cache.source), 0)
            cache.weights = (source @ cache.state[:, :, None])[..., 0].softmax(1)
        return cache.state @ self.head


def random_memory(batch: int, seed: int = 0, size: tuple[int, int] = (2, 3), prefix: int = 1) -> Memory:
    """Memory of random images."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn((batch, prefix + size[0] * size[1], WIDTH), generator=generator)
    return Memory(3 * tokens, None, size, prefix)


def image_of(memory: Memory, image: int) -> Memory:
    """The memory of one image alone."""
    return memory._replace(tokens=memory.tokens[image : image + 1])


def text_log_prob(decoder: Decoder, memory: Memory, emitted: list[int], spec: OutputSpec) -> float:
    """Teacher-forced log-probability of what was emitted for the one image of `memory`."""
    log_probs = decoder(torch.tensor([[spec.bos_id, *emitted[:-1]]]), memory).float().log_softmax(-1)[0]
    return float(log_probs[range(len(emitted)), emitted].sum())
