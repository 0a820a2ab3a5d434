"""The hub of pretrained weights, asked once before many times."""

from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 5.0  # seconds


@contextmanager
def impatient_hub() -> Iterator[None]:
    """Inside, the hub's client reads its cache alone where the hub does not answer one request within `PATIENCE`.

    By itself the client asks each of a model's files six times, with growing pauses: most of a minute where the network
    refuses, minutes where it swallows.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    before = constants.HF_HUB_OFFLINE
    try:
        get_session().head(constants.ENDPOINT, timeout=PATIENCE)
    except Exception:  # of the transport or of the proxy below the client, of unrelated classes
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
