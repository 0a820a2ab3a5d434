"""Access to the hub of pretrained weights with a timeout."""

from collections.abc import Iterator
from contextlib import contextmanager

TIMEOUT_S = 5.0


@contextmanager
def hub_with_timeout() -> Iterator[None]:
    """Context in which the hub's client only reads its cache if the hub does not respond within `TIMEOUT_S` seconds.

    Otherwise the client requests each file of a model six times, with growing pauses: most of a minute where the network
    refuses connections, minutes where it drops them.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    before = constants.HF_HUB_OFFLINE
    try:
        get_session().head(constants.ENDPOINT, timeout=TIMEOUT_S)
    except Exception:  # transport and proxy raise errors of unrelated classes
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
