"""Whether a Ray cluster answers at an address: found out in seconds, where Ray tries for a quarter of an hour."""

from __future__ import annotations

import os
import socket
import threading
import time

import grpc

from cluster.errors import UserError
from cluster.ray_internals import address_on_this_machine

TIMEOUT_S = 8.0  # of each of the three steps: the name, the connection, the answer
CLIENT = "ray://"
# A call that Ray's control service answers; without a token it refuses, which is an answer as well.
_ALIVE = "/ray.rpc.NodeInfoGcsService/CheckAlive"


def require_cluster(address: str) -> None:
    """Check that a Ray cluster answers at `address`: `host:port`, `ray://host:port` or `auto`. Takes 30 s at the most.

    Raises:
        UserError: none does, with the reason.
    """
    if address.startswith(("http://", "https://")):
        raise no_cluster(address, "that is the dashboard, for `ray job submit`; the cluster itself is at HOST:6379")
    client = address.startswith(CLIENT)
    try:
        target = address.removeprefix(CLIENT) if client else _found(address)
        host, port = _host_and_port(target)
        _require_listener(host, port)
        if os.environ.get("RAY_USE_TLS", "0").lower() not in ("1", "true"):
            _require_ray(target, client)
    except (OSError, ValueError) as error:  # TimeoutError and what a name that is not resolved raises are OSErrors
        raise no_cluster(address, str(error)) from None


def no_cluster(address: str, reason: str) -> UserError:
    """The error of an address where no cluster answers."""
    return UserError(
        f"No Ray cluster answers at RAY_ADDRESS={address} ({(reason.splitlines() or ['no reason given'])[0].rstrip('.')}). "
        "Start one (`ray up ray_cluster.yaml`), correct the address, or unset RAY_ADDRESS to work on this machine."
    )


def _found(address: str) -> str:
    """`host:port` of the cluster that runs on this machine, for `auto`; else the address."""
    if address != "auto":
        return address
    try:
        return address_on_this_machine()
    except ConnectionError:
        raise ConnectionError("there is none on this machine") from None


def _host_and_port(address: str) -> tuple[str, int]:
    host, colon, port = address.partition("/")[0].rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port[:6]) < 65536:
        raise ValueError("an address is HOST:PORT, ray://HOST:PORT or auto")
    return host.strip("[]"), int(port)


def _resolve(host: str, port: int) -> None:
    failures: list[Exception] = []

    def look_up() -> None:
        try:
            socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            failures.append(error)

    thread = threading.Thread(target=look_up, name="inkray-resolve", daemon=True)  # a look-up knows no timeout
    thread.start()
    thread.join(TIMEOUT_S)
    if thread.is_alive():
        raise TimeoutError(f"the name of host '{host}' is not resolved within {TIMEOUT_S:g} s")
    if failures:
        raise OSError(f"host '{host}' is not known: {getattr(failures[0], 'strerror', None) or failures[0]}")


def _require_listener(host: str, port: int) -> None:
    _resolve(host, port)
    deadline = time.monotonic() + TIMEOUT_S / 2  # refused now, a head that is being started may listen in a moment
    while True:
        try:
            socket.create_connection((host, port), TIMEOUT_S).close()
            return
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise ConnectionError("nothing listens there") from None
            time.sleep(0.2)
        except TimeoutError:
            raise TimeoutError(f"no connection within {TIMEOUT_S:g} s") from None


def _require_ray(address: str, client: bool) -> None:
    """Check that what listens speaks gRPC and, where it is no server for clients, is Ray's control service."""
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            grpc.channel_ready_future(channel).result(TIMEOUT_S)
            if not client:
                channel.unary_unary(_ALIVE)(b"", timeout=TIMEOUT_S)
        except grpc.FutureTimeoutError:
            raise TimeoutError("what listens there is not Ray, or hangs") from None
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNIMPLEMENTED:
                raise ConnectionError("what listens there is not Ray") from None
            if error.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE):
                raise ConnectionError(f"Ray's control service does not answer: {error.details()}") from None
