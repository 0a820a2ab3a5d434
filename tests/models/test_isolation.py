"""The package stands alone: torch, torchvision and timm, nothing of Ray, storage or Inkray's other packages."""

import subprocess
import sys

PROGRAM = """
import sys

BLOCKED = {"ray", "pyarrow", "boto3", "fsspec", "s3fs", "omegaconf", "data_pipeline", "trainers", "cluster"}


class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED and not from_third_party():
            raise ImportError(f"{name} is blocked")
        return None


def from_third_party():
    # huggingface_hub, which timm needs, looks for fsspec by itself; only imports by our code count.
    frame = sys._getframe(2)
    while frame is not None:
        if "site-packages" in frame.f_code.co_filename:
            return True
        frame = frame.f_back
    return False


sys.meta_path.insert(0, Blocker())
try:
    import ray
except ImportError:
    pass
else:
    raise SystemExit("the blocker does not block")

import torch
import models.classifier
from models import ModelConfig, OutputSpec, build_model

model = build_model(ModelConfig(), OutputSpec(20, 0, 1, 2, 4)).eval()
assert "timm" not in sys.modules  # it takes a second to import
print(tuple(model.generate(torch.zeros(1, 1, 64, 64, dtype=torch.uint8)).token_ids.shape))
ours = {name.split(".")[0] for name in sys.modules} & (BLOCKED - {"fsspec"})
assert not ours, ours
"""


def test_models_need_nothing_of_ours_and_no_ray() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("(1, ")
