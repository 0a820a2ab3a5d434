"""What is left to look at after a run: pictures, one HTML page, a model card. Plain data in, files out."""

from trainers.report.model_card import model_card
from trainers.report.record import AttentionExample, Example, RunReport
from trainers.report.write import write_report

__all__ = ["AttentionExample", "Example", "RunReport", "model_card", "write_report"]
