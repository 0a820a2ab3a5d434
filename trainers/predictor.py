"""Prediction in an actor pool: images in, texts out, one row per input, a bad image included."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from data_pipeline.images import BadImage, ImagePolicy, Prepared, prepare
from data_pipeline.stream.batch import pad_images
from models import Decoding
from trainers.checkpoint import LoadedCheckpoint, load_checkpoint


class Predictor:
    """Loads a checkpoint once and reads batches of encoded images. An actor of Ray Data, or used as it is.

    It decodes as the checkpoint is configured unless `decoding` says otherwise. Images are those of a dataset, prepared
    already, unless `image` says how they are to be.
    """

    def __init__(
        self,
        checkpoint: str,
        threads: int | None = None,
        decoding: Decoding | None = None,
        image: ImagePolicy | None = None,
    ) -> None:
        if threads:
            torch.set_num_threads(threads)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.loaded: LoadedCheckpoint = load_checkpoint(checkpoint, device)
        self.device, self.decoding = device, decoding
        self.image = image or replace(self.loaded.data.image, invert="never", scale="none")

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """`image` (encoded bytes) of each row becomes `prediction`, `error`, and `inverted`: whether it was light ink on dark
        paper. The other columns pass through.

        An optional column `problem` says why a row has no image; where it is not empty it is the row's `error`.
        """
        images: dict[int, Prepared] = {}
        errors = [str(problem) for problem in batch.get("problem", [""] * len(batch["image"]))]
        for index, data in enumerate(batch["image"]):
            if not errors[index]:
                try:
                    images[index] = prepare(bytes(data), self.image)
                except BadImage as reason:
                    errors[index] = str(reason)
        inverted = [index in images and images[index].inverted for index in range(len(errors))]
        predictions = [""] * len(errors)
        for index, text in zip(images, self.read([image.pixels for image in images.values()]), strict=True):
            predictions[index] = text
        rest = {key: values for key, values in batch.items() if key not in ("image", "problem")}
        return rest | {"prediction": predictions, "error": errors, "inverted": inverted}

    def prepare(self, data: bytes) -> np.ndarray:
        """Decode an image and bring it to the policy: uint8 (H, W[, 3]).

        Raises:
            BadImage: it cannot be decoded.
        """
        return prepare(data, self.image).pixels

    def read(self, images: list[np.ndarray]) -> list[str]:
        """Texts of prepared images."""
        if not images:
            return []
        pixels, sizes = self.to_tensors(images)
        return self.loaded.task.predict(self.loaded.model, pixels, sizes, self.decoding)

    def to_tensors(self, images: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        """Prepared images as a padded batch uint8 (B, C, H, W) and their sizes int64 (B, 2) on the device."""
        batch, sizes = pad_images(images, self.loaded.data.image)
        return torch.from_numpy(batch).to(self.device), torch.from_numpy(sizes).to(self.device)
