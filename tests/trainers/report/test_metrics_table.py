import math
import subprocess
import sys

from trainers.report.metrics_table import metrics_table
from trainers.tasks.metrics.sequence import HEADLINES

METRICS = {
    "test": {"count": 1000.0, "exact_match": 1.0, "wer": 0.1234, "cer": 0.05, "score": 0.98765, "within_1": 1.0},
    "test, a\nb": {"count": 12.0, "exact_match": 0.0, "wer": 1.5, "cer": math.nan, "score": 0.1},
}


def test_the_metrics_of_a_sequence_task_are_a_table_of_text() -> None:
    assert metrics_table(METRICS, HEADLINES).splitlines() == [
        "             images    exact      WER      CER   score",
        "test           1000  100.0 %   12.3 %    5.0 %  0.9877",
        "test, a\\nb       12    0.0 %  150.0 %    nan %  0.1000",
    ]


def test_columns_stay_in_line_whatever_their_values_and_what_is_missing_is_nan() -> None:
    lines = metrics_table({"test": {"count": 1e9, "wer": 123.0}}, HEADLINES).splitlines()
    assert len(lines[0]) == len(lines[1]) and lines[1].split() == [
        "test",
        "1000000000",
        "nan",
        "%",
        "12300.0",
        "%",
        "nan",
        "%",
        "nan",
    ]


def test_what_training_and_evaluation_import_draws_no_curves_and_renders_no_pages() -> None:
    program = "import sys, trainers.report.metrics_table, trainers.report.sample_images, trainers.report.record; "
    program += "print({'matplotlib', 'jinja2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
