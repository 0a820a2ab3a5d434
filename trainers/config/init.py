"""Settings of a start from a checkpoint."""

from dataclasses import dataclass, field


@dataclass
class InitConfig:
    """Which weights a fresh run takes from a checkpoint. A run that is resumed goes on from its own.

    Patterns are those of a shell (`backbone.*`), over the names of the network's state.
    """

    checkpoint: str = ""  # a checkpoint, or a run: its best; empty: none
    include: list[str] = field(default_factory=lambda: ["*"])
    exclude: list[str] = field(default_factory=list)


def problems(config: InitConfig) -> list[str]:
    """What is wrong with the values of `config`, by key; nothing, if all is well."""
    wrong = []
    if not config.include:
        wrong.append("init.include=[]: name at least one pattern, as in init.include=[backbone.*]")
    if not all(pattern.strip() for pattern in [*config.include, *config.exclude]):
        wrong.append("init.include and init.exclude: an empty pattern matches nothing")
    if not config.checkpoint and (config.include != ["*"] or config.exclude):
        wrong.append("init.checkpoint is empty, but init.include or init.exclude is set: name the checkpoint to start from")
    return wrong
