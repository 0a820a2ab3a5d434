"""The leaner gates are timm's, value for value and gradient for gradient."""

import copy

import pytest
import timm
import torch

from models.backbones.squeeze_excite import LeanSEModule, LeanSqueezeExcite, make_lean


@pytest.mark.parametrize(
    ("name", "lean"),
    [("regnety_002", LeanSEModule), ("efficientnet_lite0", None), ("mobilenetv3_small_050", LeanSqueezeExcite)],
)
def test_same_values_and_gradients(name: str, lean: type | None) -> None:
    torch.manual_seed(0)
    net = timm.create_model(name, num_classes=0, global_pool="").eval()
    leaner = copy.deepcopy(net)
    make_lean(leaner)
    assert any(type(module) is lean for module in leaner.modules()) == (lean is not None)
    assert list(leaner.state_dict()) == list(net.state_dict())
    images = torch.randn(2, 3, 64, 96)
    for one, other in ((net, leaner), (leaner, copy.deepcopy(leaner))):
        maps = [network.forward_features(images) for network in (one, other)]
        torch.testing.assert_close(*maps)
        gradients = []
        for network, features in zip((one, other), maps, strict=True):
            network.zero_grad()
            features.square().mean().backward()
            gradients.append({key: parameter.grad for key, parameter in network.named_parameters()})
        torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)
