"""Settings of tracking."""

from dataclasses import dataclass


@dataclass
class TrackingConfig:
    """Where figures go. `metrics.jsonl` and the log are always written."""

    log_interval: int = 20  # steps
    wandb: bool = True  # offline unless logged in
    project: str = "inkray"  # of wandb
    tensorboard: bool = False  # event files in `tensorboard/` of the run's folder
    max_sources: int = 12  # of a split, metrics of the sources with the most rows are reported apart; the others' as `other`
    pictures: int = 8  # validation images that are shown at each evaluation, with what was read in them; 0: none


def problems(config: TrackingConfig) -> list[str]:
    """What is wrong with the values of `config`, by key; nothing, if all is well."""
    wrong = []
    if config.log_interval < 1:
        wrong.append(f"tracking.log_interval={config.log_interval}: at least 1")
    if config.max_sources < 0:
        wrong.append(f"tracking.max_sources={config.max_sources}: not negative")
    if config.pictures < 0:
        wrong.append(f"tracking.pictures={config.pictures}: not negative")
    if config.wandb and not config.project:
        wrong.append("tracking.project is empty: name a project of wandb, or set tracking.wandb=false")
    return wrong
