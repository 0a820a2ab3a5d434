"""Prediction in an actor pool: images in, texts out, one row per input, a bad image included."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from cluster.errors import UserError
from data_pipeline.preparation.images import BadImage, ImagePolicy, Prepared, page_count, prepare
from data_pipeline.storage.base import open_storage
from data_pipeline.stream.batch import pad_images
from models import Decoding
from trainers.checkpoint.format import CheckpointError, LoadedCheckpoint, load_checkpoint
from trainers.prediction.frames import frames_of
from trainers.prediction.job import checkpoint_digest

_LEAST_AT_ONCE = 16  # pages may be more than the files of a batch: they are read in batches of as many as files came


@dataclasses.dataclass
class Picture:
    """One picture of the row `row` of a batch: page `page` of `pages`."""

    row: int
    page: int = 1
    pages: int = 1
    image: np.ndarray | None = None
    prediction: str = ""
    error: str = ""
    warning: str = ""
    inverted: bool = False


class Predictor:
    """Loads a checkpoint once and reads batches of encoded images. An actor of Ray Data, or used as it is.

    It decodes as the checkpoint is configured unless `decoding` says otherwise. Images are those of a dataset, prepared
    already, unless `image` says how they are to be. Whatever is wrong with one image becomes the `error` of its row: bytes that
    cannot be decoded, or an exception of the network that comes back with this image alone. What is wrong with the checkpoint,
    the device or its memory is raised.
    """

    def __init__(
        self,
        checkpoint: str,
        threads: int | None = None,
        decoding: Decoding | None = None,
        image: ImagePolicy | None = None,
        digest: str = "",
    ) -> None:
        """`digest`: that of the checkpoint which is meant; another one in its place is refused.

        Raises:
            CheckpointError: there is none, it is damaged, or another one.
        """
        if threads:
            torch.set_num_threads(threads)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.loaded: LoadedCheckpoint = load_checkpoint(checkpoint, device)
        if digest and checkpoint_digest(open_storage(self.loaded.uri)) != digest:
            raise CheckpointError(
                f"Checkpoint '{self.loaded.uri}' was replaced by another while it was predicting. Start again."
            )
        self.device, self.decoding = device, decoding
        self.image = image or dataclasses.replace(self.loaded.data.image, invert="never", scale="none")

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """`image` (encoded bytes) of each row becomes `prediction`, `error`, and `inverted`: whether it was light ink on dark
        paper. The other columns pass through.

        With a column `problem` the rows are files. Where it is not empty it says why there is no image, and becomes the
        row's `error`. Each page of a TIFF becomes a row, with `page` (from 1) of `pages`, and `warning` says what of a file
        was not read: of an animation that is all but its first frame.
        """
        files = "problem" in batch
        pictures: list[Picture] = []
        for row, data in enumerate(batch["image"]):
            if not files:
                pictures.append(self._picture(row, bytes(data)))
            elif problem := str(batch["problem"][row]):
                pictures.append(Picture(row, error=problem))
            else:
                pictures += self._pictures(row, bytes(data))
        whole = [picture for picture in pictures if picture.image is not None]
        size = max(_LEAST_AT_ONCE, len(batch["image"]))
        for first in range(0, len(whole), size):
            self._read_each(whole[first : first + size])
        rows = [picture.row for picture in pictures]
        rest = {key: values for key, values in batch.items() if key not in ("image", "problem")}
        if len(pictures) != len(batch["image"]):
            rest = {key: np.asarray(values)[rows] for key, values in rest.items()}
        names = ("prediction", "error", "inverted", *(("warning", "page", "pages") if files else ()))
        return rest | {name: [getattr(picture, name) for picture in pictures] for name in names}

    def _pictures(self, row: int, data: bytes) -> list[Picture]:
        """The pages of a file."""
        try:
            pages = page_count(data)
        except BadImage as reason:
            return [Picture(row, error=_line(str(reason)))]
        if pages > 1:
            found = [self._picture(row, data, page) for page in range(pages)]
            return [dataclasses.replace(one, page=i, pages=pages) for i, one in enumerate(found, 1)]
        picture = self._picture(row, data)
        frames = frames_of(data)
        if frames > 1 and not picture.error:
            picture.warning = f"the first of {frames} frames was read"
        return [picture]

    def _picture(self, row: int, data: bytes, page: int | None = None) -> Picture:
        try:
            prepared = self.prepare(data, page)
            return Picture(row, image=prepared.pixels, inverted=prepared.inverted)
        except BadImage as reason:
            return Picture(row, error=_line(str(reason)))
        except Exception as error:  # of libraries, MemoryError for an absurd size included
            return Picture(row, error=f"cannot be prepared: {_named(error)}")

    def _read_each(self, pictures: list[Picture]) -> None:
        """Read a batch; if the network fails, image by image, to find the one that it fails with."""
        try:
            texts = self.read([picture.image for picture in pictures if picture.image is not None])
        except UserError:
            raise
        except Exception as error:
            if _is_memory(error):
                raise UserError(
                    f"Out of memory with {len(pictures)} images at once ({_named(error)}). Choose a smaller --batch-size."
                ) from error
            self.read([self.blank()])  # raises where not the image is at fault but the network, or a device in disorder
            if len(pictures) == 1:
                pictures[0].error = f"cannot be read by the network: {_named(error)}"
                return
            for picture in pictures:
                self._read_each([picture])
            return
        for picture, text in zip(pictures, texts, strict=True):
            picture.prediction = text

    def blank(self) -> np.ndarray:
        """An empty image of the largest size."""
        policy = self.loaded.data.image
        shape = (policy.height, policy.width) if policy.color == "gray" else (policy.height, policy.width, 3)
        return np.full(shape, policy.background, np.uint8)

    def prepare(self, data: bytes, page: int | None = None) -> Prepared:
        """Decode an image, of a TIFF with several pages its `page`, and bring it to the policy.

        Raises:
            BadImage: it cannot be decoded.
        """
        return prepare(data, self.image, page)

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


def _is_memory(error: Exception) -> bool:
    # The allocator of CPUs has no exception of its own.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def _named(error: Exception) -> str:
    text = _line(str(error))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _line(text: str) -> str:
    """The first line of a message, as a table can hold it."""
    return (text.strip().splitlines() or [""])[0][:300].encode(errors="backslashreplace").decode()
