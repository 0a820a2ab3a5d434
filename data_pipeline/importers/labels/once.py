"""Inputs that name one image, or have one id: all but the first are rejected, and the first as well where labels differ."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from data_pipeline.dataset.shards import Rejected
from data_pipeline.importers.labels.source import Item, rejection


def each_once(items: Sequence[Item], identities: Sequence[Hashable | None]) -> tuple[list[Item], list[Rejected]]:
    """The items whose identity and id no other has, and the rejected others. An identity of None is like no other.

    Of several items of one identity the first stays if all have the same labels; otherwise nobody can tell which labels are
    right, and none stays. Of several items with one id the first stays.
    """
    first: dict[Hashable, Item] = {}
    contradicted: dict[Hashable, Item] = {}
    for item, identity in zip(items, identities, strict=True):
        if identity is not None and first.setdefault(identity, item).target != item.target:
            contradicted.setdefault(identity, item)
    kept: list[Item] = []
    rejected: list[Rejected] = []
    ids: dict[str, Item] = {}
    for item, identity in zip(items, identities, strict=True):
        reason = ""
        if identity in contradicted:
            other = contradicted[identity] if first[identity] is item else first[identity]
            reason = f"the same image as in {other.shown}, with other labels"
        elif identity is not None and first[identity] is not item:
            reason = f"the same image as in {first[identity].shown}"
        elif ids.setdefault(item.id, item) is not item:
            reason = f"its id is that of {ids[item.id].shown}"
        if reason:
            rejected.append(rejection(item.id, item.shown, reason, item.split))
        else:
            kept.append(item)
    return kept, rejected
