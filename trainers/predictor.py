"""Prediction in an actor pool: images in, texts out, one row per input, a bad image included."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from data_pipeline.images import BadImage, decode, fit
from data_pipeline.stream.batch import WIDTH_MULTIPLE
from trainers.checkpoint import LoadedCheckpoint, load_checkpoint


class Predictor:
    """Loads a checkpoint once and reads batches of encoded images. An actor of Ray Data, or used as it is."""

    def __init__(self, checkpoint: str, threads: int | None = None) -> None:
        if threads:
            torch.set_num_threads(threads)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.loaded: LoadedCheckpoint = load_checkpoint(checkpoint, device)
        self.device = device

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """`image` (encoded bytes) of each row becomes `prediction` and `error`; the other columns pass through."""
        images: list[np.ndarray | None] = []
        errors: list[str] = []
        for data in batch["image"]:
            try:
                images.append(self.prepare(bytes(data)))
                errors.append("")
            except BadImage as reason:
                images.append(None)
                errors.append(str(reason))
        predictions = [""] * len(images)
        good = [index for index, image in enumerate(images) if image is not None]
        for index, text in zip(good, self.read([images[i] for i in good if images[i] is not None]), strict=True):  # type: ignore[misc]
            predictions[index] = text
        rest = {key: values for key, values in batch.items() if key != "image"}
        return rest | {"prediction": predictions, "error": errors}

    def prepare(self, data: bytes) -> np.ndarray:
        """Decode and fit an image as the training data was: uint8 (H, W[, 3]).

        Raises:
            BadImage: it cannot be decoded.
        """
        policy = self.loaded.data.image
        return fit(decode(data, policy.colour), policy)

    def read(self, images: list[np.ndarray]) -> list[str]:
        """Texts of prepared images."""
        if not images:
            return []
        pixels, widths = self.to_tensors(images)
        return self.loaded.task.predict(self.loaded.model, pixels, widths)

    def to_tensors(self, images: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        """Prepared images as a padded batch uint8 (B, C, H, W) and their widths int64 (B,) on the device."""
        policy = self.loaded.data.image
        width = -(-max(image.shape[1] for image in images) // WIDTH_MULTIPLE) * WIDTH_MULTIPLE
        batch = np.full((len(images), policy.channels, policy.height, width), policy.background, np.uint8)
        for index, image in enumerate(images):
            pixels = image.reshape(*image.shape[:2], -1)
            batch[index, :, :, : image.shape[1]] = pixels.transpose(2, 0, 1)
        widths = np.array([image.shape[1] for image in images], np.int64)
        return torch.from_numpy(batch).to(self.device), torch.from_numpy(widths).to(self.device)
