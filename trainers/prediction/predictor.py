"""The predictor: encoded images in, predictions out, one row per image, a bad image included."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from cluster.errors import UserError
from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.preparation.images import BadImage, Prepared, page_count, prepare
from data_pipeline.stream.batch import pad_images
from trainers.checkpoint.load import Checkpoint, load_model
from trainers.distributed.precision import set_float32_products
from trainers.prediction.columns import empty_prediction
from trainers.prediction.frames import frames_of
from trainers.prediction.image_options import image_policy_of
from trainers.tasks.base import Row

_MIN_BATCH = 16  # pages may be more than the files of a batch: they are read in batches of as many as files came


@dataclasses.dataclass
class PageImage:
    """An image of the row `row` of a batch: page `page` of `pages`; what became of it."""

    row: int
    page: int = 1
    pages: int = 1
    image: np.ndarray | None = None
    prediction: Row | None = None
    error: str = ""
    warning: str = ""
    inverted: bool = False


class Predictor:
    """Loads a checkpoint's weights once and reads batches of encoded images. An actor of Ray Data, or used as it is.

    It predicts as the checkpoint's task is configured. Images are files as they come, which are prepared as the checkpoint's
    dataset was, unless `image` says otherwise (`image_options.image_policy_of` has the policies, that of a dataset's images
    too). Whatever is wrong with one image becomes the `error` of its row: bytes that cannot be decoded, or an
    exception of the network that comes back with this image alone. What is wrong with the checkpoint, the device or its memory
    is raised.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        threads: int | None = None,
        image: ImagePolicy | None = None,
        device: torch.device | None = None,
    ) -> None:
        """Load the weights.

        Raises:
            CheckpointError: they are damaged, or another checkpoint has taken the place of this one.
        """
        if threads:
            torch.set_num_threads(threads)
        self.device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.checkpoint, self.task = checkpoint, checkpoint.task
        if self.device.type == "cuda":
            set_float32_products(checkpoint.config.compute.precision)
        self.model = self.task.for_prediction(load_model(checkpoint, self.device))
        self.image = image or image_policy_of(checkpoint, [], prepared=False)
        self._empty = empty_prediction(self.task.prediction_schema)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """`image` (encoded bytes) of each row becomes the columns of a prediction, `error`, and `inverted`: whether it was
        light ink on dark paper. The other columns pass through.

        With a column `problem` the rows are files. Where it is not empty it says why there is no image, and becomes the
        row's `error`. Each page of a TIFF becomes a row, with `page` (from 1) of `pages`, and `warning` says what of a file
        was not read: of an animation that is all but its first frame.
        """
        return self.predict_prepared(batch, self.prepare_batch(batch))

    def prepare_batch(self, batch: dict[str, Any]) -> list[PageImage]:
        """The images of a batch, decoded and brought to the policy, or why they cannot be."""
        pages: list[PageImage] = []
        for row, data in enumerate(batch["image"]):
            if "problem" not in batch:
                pages.append(self._page(row, bytes(data)))
            elif problem := str(batch["problem"][row]):
                pages.append(PageImage(row, error=problem))
            else:
                pages += self._pages_of_file(row, bytes(data))
        return pages

    def predict_prepared(self, batch: dict[str, Any], pages: list[PageImage]) -> dict[str, Any]:
        """The rows of a batch, of its prepared images."""
        readable = [page for page in pages if page.image is not None]
        size = max(_MIN_BATCH, len(batch["image"]))
        for first in range(0, len(readable), size):
            self._predict_each(readable[first : first + size])
        rows = [page.row for page in pages]
        rest = {key: values for key, values in batch.items() if key not in ("image", "problem")}
        if len(pages) != len(batch["image"]):
            rest = {key: np.asarray(values)[rows] for key, values in rest.items()}
        predicted = {name: [(page.prediction or self._empty)[name] for page in pages] for name in self._empty}
        names = ("error", "inverted", *(("warning", "page", "pages") if "problem" in batch else ()))
        return rest | predicted | {name: [getattr(page, name) for page in pages] for name in names}

    def _pages_of_file(self, row: int, data: bytes) -> list[PageImage]:
        try:
            pages = page_count(data)
        except BadImage as reason:
            return [PageImage(row, error=_line(str(reason)))]
        if pages > 1:
            found = [self._page(row, data, page) for page in range(pages)]
            return [dataclasses.replace(one, page=i, pages=pages) for i, one in enumerate(found, 1)]
        page = self._page(row, data)
        frames = frames_of(data)
        if frames > 1 and not page.error:
            page.warning = f"the first of {frames} frames was read"
        return [page]

    def _page(self, row: int, data: bytes, page: int | None = None) -> PageImage:
        try:
            prepared = self.prepare(data, page)
            return PageImage(row, image=prepared.pixels, inverted=prepared.inverted)
        except BadImage as reason:
            return PageImage(row, error=_line(str(reason)))
        except Exception as error:  # of libraries, MemoryError for an absurd size included
            return PageImage(row, error=f"cannot be prepared: {_named(error)}")

    def _predict_each(self, pages: list[PageImage]) -> None:
        """Predict a batch; if the network fails, image by image, to find the one that it fails with."""
        try:
            predictions = self.predict([page.image for page in pages if page.image is not None])
        except UserError:
            raise
        except Exception as error:
            if _is_memory(error):
                raise UserError(
                    f"Out of memory with {len(pages)} images at once ({_named(error)}). Choose a smaller --batch-size."
                ) from error
            self.predict([self.blank()])  # raises where not the image is at fault but the network, or a device in disorder
            if len(pages) == 1:
                pages[0].error = f"cannot be read by the network: {_named(error)}"
                return
            for page in pages:
                self._predict_each([page])
            return
        for page, prediction in zip(pages, predictions, strict=True):
            page.prediction = prediction

    def blank(self) -> np.ndarray:
        """An empty image of the largest size."""
        policy = self.checkpoint.data.image
        shape = (policy.height, policy.width) if policy.color == "gray" else (policy.height, policy.width, 3)
        return np.full(shape, policy.background, np.uint8)

    def prepare(self, data: bytes, page: int | None = None) -> Prepared:
        """Decode an image, of a TIFF with several pages its `page`, and bring it to the policy.

        Raises:
            BadImage: it cannot be decoded.
            TypeError: `data` is not the bytes of an image file, but a path, say.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"prepare takes the bytes of an image file, not a {type(data).__name__}: read the file first.")
        return prepare(data, self.image, page)

    def predict(self, images: list[np.ndarray]) -> list[Row]:
        """Predictions of prepared images."""
        return self.task.predict(self.model, *self.to_tensors(images)) if images else []

    def to_tensors(self, images: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        """Prepared images as a padded batch uint8 (B, C, H, W) and their sizes int64 (B, 2) on the device."""
        batch, sizes = pad_images(images, self.checkpoint.data.image)
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
