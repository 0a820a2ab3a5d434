"""Schema versions of `dataset.json`: version 1 is read as version 2, and both have the same digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.dataset.token_targets import TEXT_COLUMNS

SCHEMA_VERSION = 2  # what is written
READ_VERSIONS = (1, 2)

# Keys of the image policy that the first datasets do not have: they count in the digest only where they are set.
_LATER = {"invert": "never", "scale": "none", "fixed_width": False}


def upgraded(content: dict[str, Any]) -> dict[str, Any]:
    """The content of `dataset.json` of any version that is read, as version 2 states it.

    Raises:
        KeyError, TypeError, AttributeError, ValueError: it lacks something.
    """
    if content["schema_version"] != 1:
        return content
    content = dict(content)
    charset = content.pop("charset")
    if not isinstance(charset, list) or not all(isinstance(token, str) for token in charset):
        raise ValueError("charset is not a list of texts")
    content |= {"target": {"charset": charset}, "columns": dict(TEXT_COLUMNS), "license": content.pop("licence", "")}
    content["splits"] = {
        name: {"shards": split["shards"], "target_stats": {"max_tokens": split["max_tokens"]}}
        for name, split in content["splits"].items()
    }
    return content | {"schema_version": SCHEMA_VERSION}


def content_digest(
    task: str, target: Mapping[str, Any], columns: Mapping[str, str], policy: ImagePolicy, shards: Iterable[tuple[str, str]]
) -> str:
    """The digest of a dataset, computed from what determines its samples; `shards` are pairs of file and SHA-256.

    The order of samples follows from it, so it must stay the same for a dataset forever, whatever the schema version.
    """
    lines = sorted(f"{file} {sha256}" for file, sha256 in shards)
    # The size of the ink follows from the shards.
    image = {
        ("colour" if key == "color" else key): value
        for key, value in asdict(policy).items()
        if key != "ink_size" and (key not in _LATER or value != _LATER[key])
    }
    if task == "sequence" and columns == TEXT_COLUMNS and target.keys() == {"charset"}:
        content: list[Any] = [1, target["charset"], image, lines]  # as version 1 had it
    else:
        content = [SCHEMA_VERSION, task, target, columns, image, lines]
    return "sha256:" + hashlib.sha256(json.dumps(content).encode()).hexdigest()
