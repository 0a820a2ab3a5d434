"""The one error that the models raise for a configuration or an input that they cannot serve."""


class ModelConfigError(ValueError):
    """A model setting, or an input that contradicts one; the message names the config key and the way out."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(key, problem)  # both, as they are: what is pickled is made again from them
        self.key = key
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.key}: {self.problem}"
