"""The one error that the models raise for a configuration or an input that they cannot serve."""


class ModelConfigError(ValueError):
    """A model setting, or an input that contradicts one; the message names the config key and the way out."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}")
        self.key = key
