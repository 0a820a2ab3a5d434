"""`torch.export` of a recognizer's `forward`: no check and no mask depends on values."""

import pytest
import torch

from tests.support.configurations import random_images, random_targets, tiny_model


# Without sizes a graph has fewer operations, the same for all structures.
@pytest.mark.parametrize(
    ("structure", "padded"), [("small", False), *((structure, True) for structure in ("comer", "aster", "final"))]
)
def test_the_graph_gives_what_the_model_gives(structure: str, padded: bool) -> None:
    model = tiny_model(structure)
    images, tgt_in = random_images(model, 2), random_targets(2, 5)
    sizes = torch.tensor([[64, 128], [41, 90]]) if padded else None
    graph = torch.export.export(model, (images, tgt_in, sizes)).module()
    other = torch.tensor([[40, 77], [64, 128]]) if padded else None
    for batch, ids, true in ((images, tgt_in, sizes), (images.flip(0), random_targets(2, 5, seed=1), other)):
        for found, expected in zip(graph(batch, ids, true), model(batch, ids, true), strict=True):
            assert (found is None) == (expected is None)
            if expected is not None:
                torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
