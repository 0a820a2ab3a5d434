"""The section `init`: a start from the weights of a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field

from trainers.config.rules import broken


@dataclass
class InitConfig:
    """Which weights a new run takes from a checkpoint (warm start). A run that is resumed continues from its own.

    Patterns are those of a shell (`backbone.*`), over the names of the network's state.
    """

    checkpoint: str = ""  # a checkpoint, or a run: its best; empty: none
    include: list[str] = field(default_factory=lambda: ["*"])  # patterns of the names that are taken
    exclude: list[str] = field(default_factory=list)  # patterns of names that are not, although `include` has them

    def validate(self) -> list[str]:
        """What is wrong with the values, by key."""
        return broken(
            (bool(self.include), "init.include=[]: name at least one pattern, as in init.include=[backbone.*]"),
            (
                all(pattern.strip() for pattern in [*self.include, *self.exclude]),
                "init.include and init.exclude: an empty pattern matches nothing",
            ),
            (
                bool(self.checkpoint) or (self.include == ["*"] and not self.exclude),
                "init.checkpoint is empty, but init.include or init.exclude is set: name the checkpoint to start from",
            ),
        )
