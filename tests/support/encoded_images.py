"""Encoded images, and a predictor of them that needs no checkpoint."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from data_pipeline.preparation.images import Prepared, decode, encode_png
from trainers.prediction.predictor import Predictor
from trainers.tasks.base import Row

PNG = encode_png(np.zeros((8, 8), np.uint8))


def encoded(form: str) -> bytes:
    """A gray image of 16 x 16 pixels in a file format of Pillow's."""
    buffer = io.BytesIO()
    Image.new("L", (16, 16), 200).save(buffer, form)
    return buffer.getvalue()


def rows_of(*images: bytes) -> dict[str, np.ndarray]:
    """Encoded images as a batch for a predictor, their ids their numbers."""
    return {"id": np.array([f"{i}" for i in range(len(images))]), "image": np.array(images, object)}


class SizePredictor(Predictor):
    """Predicts the size of an image as a text, without a checkpoint; images of fewer than 4 rows of pixels make it fail."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self._empty = {"prediction": ""}

    def prepare(self, data: bytes, page: int | None = None) -> Prepared:
        if data == b"raises":
            raise NotImplementedError("an exception of a decoder's own")
        return Prepared(decode(data, "gray", page=page), inverted=False)

    def predict(self, images: list[np.ndarray]) -> list[Row]:
        self.seen.append(len(images))
        if any(image.shape[0] < 4 for image in images):
            raise RuntimeError("Calculated padded input size per channel: (2 x 8)")
        return [{"prediction": str(image.shape)} for image in images]

    def blank(self) -> np.ndarray:
        return np.zeros((8, 8), np.uint8)
