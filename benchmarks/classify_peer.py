"""The peer of benchmarks.classify: timm's network, loss, optimizer and transforms in a plain loop over torch's DataLoader.

It reads PNG files beside a list of labels, takes the same steps as Inkray (batch, epochs, optimizer, peak rate, schedule by
step) and answers the same metric, torchmetrics' mean average precision.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchmetrics.functional.classification import multilabel_average_precision

WORKERS = 2  # of the DataLoader


@dataclass(frozen=True)
class Recipe:
    """What both sides train: a timm network of gray images of `size` pixels, and its steps."""

    network: str
    classes: int
    size: int
    batch_size: int
    epochs: int
    lr: float
    weight_decay: float
    warmup: float  # share of all steps


class Boards(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """PNG files in a folder and their labels."""

    def __init__(self, files: list[Path], labels: np.ndarray, recipe: Recipe, training: bool) -> None:
        from timm.data import create_transform

        self._files, self._labels = files, torch.from_numpy(labels)
        size = (1, recipe.size, recipe.size)
        # No random crop and no flip: letters at the border are letters, and a letter in a mirror is none.
        self._transform = create_transform(
            size, is_training=training, no_aug=training, crop_pct=1.0, mean=(0.5,), std=(0.5,), interpolation="bilinear"
        )

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        with Image.open(self._files[index]) as image:
            return self._transform(image), self._labels[index]


def lr_of(recipe: Recipe, step: int, steps: int) -> float:
    """A linear rise, then half a cosine to zero."""
    rise = max(1, round(recipe.warmup * steps))
    if step < rise:
        return recipe.lr * (step + 1) / rise
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def train_peer(recipe: Recipe, train: Boards, test: Boards, seed: int) -> tuple[list[float], float]:
    """Images/s of each epoch, and the mean average precision on the test split."""
    import timm
    from timm.loss import BinaryCrossEntropy
    from timm.optim import create_optimizer_v2

    torch.manual_seed(seed)
    model = timm.create_model(recipe.network, in_chans=1, num_classes=recipe.classes)
    model = model.to(memory_format=torch.channels_last)
    optimizer = create_optimizer_v2(model, opt="adamw", lr=recipe.lr, weight_decay=recipe.weight_decay, betas=(0.9, 0.98))
    loss_of = BinaryCrossEntropy()
    loader = DataLoader(train, recipe.batch_size, shuffle=True, num_workers=WORKERS, persistent_workers=True)
    steps, step, rates = recipe.epochs * len(loader), 0, []
    for _ in range(recipe.epochs):
        model.train()
        started, images = time.perf_counter(), 0
        for pixels, labels in loader:
            for group in optimizer.param_groups:
                group["lr"] = lr_of(recipe, step, steps)
            loss = loss_of(model(pixels.contiguous(memory_format=torch.channels_last)), labels)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step, images = step + 1, images + len(labels)
        rates.append(images / (time.perf_counter() - started))
    model.eval()
    scores, truth = [], []
    with torch.inference_mode():
        for pixels, labels in DataLoader(test, 64, num_workers=WORKERS):
            scores.append(model(pixels.contiguous(memory_format=torch.channels_last)).sigmoid())
            truth.append(labels)
    found = multilabel_average_precision(torch.cat(scores), torch.cat(truth).long(), num_labels=recipe.classes, average="macro")
    return rates, float(found)
