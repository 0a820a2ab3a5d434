"""The error of the models for an invalid configuration or input."""


class ModelConfigError(ValueError):
    """Invalid model setting, or input that contradicts one; the message names the config key and a remedy."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(key, problem)  # unchanged: unpickling calls the class with them
        self.key = key
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.key}: {self.problem}"
