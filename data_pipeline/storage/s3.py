"""The file system of S3 and of servers that speak its protocol."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyarrow.fs as pafs

from cluster.environment import set_environment_defaults
from cluster.redaction import printable
from data_pipeline.storage.errors import StorageError, s3_endpoint
from data_pipeline.storage.uris import Uri

CONNECT_TIMEOUT_S = 5
REQUEST_TIMEOUT_S = 8  # without a byte; all attempts together stay below 30 s
MAX_ATTEMPTS = 3

_QUERY = ("endpoint_override", "scheme", "region")


def s3_filesystem(parts: Uri) -> tuple[pafs.FileSystem, str]:
    """The file system for the s3:// URI with these parts, and the endpoint of a server that is not Amazon's.

    Raises:
        StorageError: the URI names no bucket or has an unknown parameter.
    """
    shown = printable(str(parts))
    if not parts.authority or ":" in parts.authority:
        raise StorageError(f"'{shown}' names no bucket. Write s3://BUCKET/PATH; a server is named by AWS_ENDPOINT_URL.")
    query = {key: values[-1] for key, values in parse_qs(parts.query[1:]).items()}
    if unknown := [key for key in query if key not in _QUERY]:
        raise StorageError(
            f"An s3:// URI has an unknown parameter, '{printable(unknown[0])}'. There are: {', '.join(_QUERY)}. "
            "A ? in a path is written %3F."
        )
    endpoint = query.get("endpoint_override") or s3_endpoint()
    options: dict[str, Any] = {}
    if endpoint:
        endpoint = endpoint if "://" in endpoint else f"{query.get('scheme', 'https')}://{endpoint}"
        address = urlsplit(endpoint)
        options = {"endpoint_override": address.netloc, "scheme": address.scheme}
        # Not Amazon's: there is no service to ask for this machine's credentials, and asking takes seconds.
        os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
    region = query.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region or endpoint:
        options["region"] = region or "us-east-1"
    set_environment_defaults()
    filesystem = pafs.S3FileSystem(
        connect_timeout=CONNECT_TIMEOUT_S,
        request_timeout=REQUEST_TIMEOUT_S,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=MAX_ATTEMPTS),
        **options,
    )
    return filesystem, endpoint or ""
