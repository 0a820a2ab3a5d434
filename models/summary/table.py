"""Text tables of the counts and costs of recognizers."""

from models.summary.count import Counts
from models.summary.measure import Measurement

NAME_WIDTH = 32


def title(measured: bool) -> str:
    """Header of the table."""
    columns = (
        f"{'configuration':{NAME_WIDTH}} {'parameters':>12} {'state dict':>12} {'G mult-adds':>12}  {'image':14} {'map':14}"
    )
    return columns + (f" {'train GiB':>10} {'ms, 1':>8} {'ms, 24':>8}" if measured else "")


def line(counts: Counts, measured: Measurement | None) -> str:
    """Row of one configuration."""
    text = (
        f"{counts.name:{NAME_WIDTH}} {counts.parameters:12,} {counts.state_dict_elements:12,} "
        f"{counts.multiply_adds / 1e9:12.2f}  {_shape(counts.image):14} {_shape(counts.feature_map):14}"
    )
    if measured is None:
        return text.rstrip()
    latencies = "".join(f" {1e3 * seconds:8.0f}" for seconds in measured.seconds.values())
    return f"{text} {measured.train_bytes / 2**30:10.2f}{latencies}"


def details(counts: Counts, measured: Measurement | None) -> str:
    """Table of one configuration, part by part."""
    rows = [f"{'part':14} {'parameters':>14} {'state dict':>14} {'G mult-adds':>12}"]
    for name, part in counts.parts.items():
        rows.append(f"{name:14} {part.parameters:14,} {part.state_dict_elements:14,} {part.multiply_adds / 1e9:12.3f}")
    rows.append(f"{counts.name:14} {counts.parameters:14,} {counts.state_dict_elements:14,} {counts.multiply_adds / 1e9:12.3f}")
    rows += [
        "",
        f"image {_shape(counts.image)} -> feature map {_shape(counts.feature_map)} -> memory {_shape(counts.memory)}",
        *(f"-> {head} logits {_shape(shape)}" for head, shape in counts.logits.items()),
        f"Multiply-adds are of the teacher-forced pass of one image and {counts.tokens} tokens, without biases and norms.",
    ]
    return "\n".join(rows + (_measured(measured) if measured else []))


def _measured(measured: Measurement) -> list[str]:
    where = f"{measured.device}, {measured.threads} threads" if measured.device == "CPU" else measured.device
    return [
        f"Training step, batch {measured.train_batch}: {measured.train_bytes / 2**30:.2f} GiB "
        "of weights, gradients, moments and activations",
        f"Greedy decoding, {measured.tokens} tokens, on {where}: "
        + ", ".join(f"batch {batch}: {1e3 * seconds:,.0f} ms" for batch, seconds in measured.seconds.items()),
    ]


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
