import math
import os
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from trainers.report.formatting import upright
from trainers.report.model_card import model_card
from trainers.report.record import RunReport
from trainers.report.write import write_report
from trainers.tasks.metrics.sequence import DETAILS, HEADLINES
from trainers.tasks.presentation import AttentionExample, Example, MetricColumn, Section, Table

HOSTILE = "<script>alert(1)</script> & \"quoted\" 'x' | ` $a_1$ \\frac"


class Page(HTMLParser):
    """What a browser would make of a page: its tags, their attributes, the text of each kind of element."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.links: list[str] = []
        self.text: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = dict(attrs)
        self.sources += [values["src"] or ""] if "src" in values else []
        self.links += [values["href"] or ""] if "href" in values else []
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in ("meta", "img", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in set(self.open):
            self.text.setdefault(tag, []).append(data)


def image() -> np.ndarray:
    return np.full((20, 60), 200, np.uint8)


def report(text: str = "plain") -> RunReport:
    return RunReport(
        title=text,
        config_yaml=f"name: {text}\n",
        history=[{"step": 1, "train/loss": 2.0, "val/exact_match": 0.5}],
        headlines=HEADLINES,
        details=DETAILS,
        metrics={"test": {"exact_match": 0.5, "wer": 0.25, "count": 1000}, f"test, {text}": {"exact_match": 0.25}},
        sources={text: {"exact_match": 0.5}, "other": {"exact_match": 0.75}},
        examples=[Example(text, image(), "a b", f"a {text}", text), Example("two", image(), "a", "a")],
        attention=AttentionExample(image(), [text, "b"], np.ones((2, 3, 4))),
        sections=[
            Section(text, {text: text}, text),
            Section("Table", Table([text, "images"], [[text, 12345], ["b", 0.25]])),
            Section("Text", f"{text}\n  indented"),
            Section("Image", image()),
            Section("Another", AttentionExample(image(), [text], np.ones((1, 3, 4)))),
            Section("Empty image", np.zeros((0, 0), np.uint8)),
        ],
        dataset={"name": text, "license": f"research only {text}", "splits": {"test": 1000}},
        checkpoint=text,
        environment={text: text, "versions": {"torch": "2.10.0"}},
    )


def test_the_page_shows_the_run_and_all_its_images_exist(tmp_path: Path) -> None:
    index = write_report(tmp_path / "new" / "report", report())
    assert index == tmp_path / "new" / "report" / "index.html"
    page = Page(index.read_text())
    assert {"learning_curves.png", "attention.png", "section-4.png", "section-5.png"} < set(page.sources)
    assert page.links == ["samples.png"]
    for path in page.sources + page.links:
        assert cv2.imread(str(index.parent / path)) is not None, path
    cells = "".join(page.text["td"])
    assert "50.0 %" in cells and "25.0 %" in cells and "1,000" in cells and "–" in cells
    assert page.text["mark"] == ["b", "plain"]
    assert (index.parent / "model_card.md").read_text() == model_card(report())


def test_a_task_names_its_metrics_and_adds_its_sections(tmp_path: Path) -> None:
    error = MetricColumn("mean_error", "off by", ".2f", "min", "Mean error")
    run = RunReport(
        title="x",
        headlines=[MetricColumn("count", "images", ".0f"), error],
        split="val",
        metrics={"val": {"seen": 3.0, "count": 12345.0, "mean_error": 1.234}},
        sources={"a": {"mean_error": 1.0}, "b": {"mean_error": 2.0, "count": 7.0}},
        sections=[Section("Counts", Table(["off by", "images"], [[0, 1200], [1, 0.5]]), "How far off they are.")],
    )
    page = Page(write_report(tmp_path, run).read_text())
    assert page.text["b"] == ["1.23", "12,345"] and page.text["span"] == ["Mean error, val", "Images, val"]
    assert page.text["thead"] == ["Mean error ↓", "Images", "Seen", "off by", "images"]
    assert page.text["td"] == ["1.23", "12,345", "3", "1,200", "0.5"]
    assert "Counts" in page.text["h2"] and page.text["p"] == ["How far off they are."]
    card = model_card(run)
    assert "|  | Mean error | Images | Seen |" in card and "| val | 1.23 | 12,345 | 3 |" in card
    assert "weakest on b: 2.00 mean error (7 images of the val split)" in card


def test_metrics_that_are_too_many_for_a_row_have_a_row_each() -> None:
    few = Table(["", "exact", "CER"], [["test", "1", "2"]])
    rows: list[list[Any]] = [["test", *range(12)], ["val", *range(20, 32)]]
    many = Table(["", *map(str, range(12))], rows)
    assert upright(few) == few
    assert upright(many) == Table(["", "test", "val"], [[str(number), number, number + 20] for number in range(12)])
    sources = Table(many.columns, rows * 6)
    assert upright(sources) == sources, "as wide the other way round"


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    html = write_report(tmp_path, report(HOSTILE)).read_text()
    page = Page(html)
    assert "script" not in page.tags and "<script" not in html and "http" not in html
    assert page.text["title"] == [HOSTILE] and HOSTILE in page.text["h2"] and HOSTILE in page.text["dt"]
    assert page.text["h1"] == [HOSTILE]
    assert HOSTILE in "".join(page.text["pre"])
    assert all(not source.startswith(("http", "//", "data", "javascript")) for source in page.sources + page.links)


def test_secrets_are_left_out_whatever_signs_they_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE_SECRET", "a&b\"c'd<e>f`g")
    text = f"alpha {os.environ['STORE_SECRET']} omega"
    index = write_report(tmp_path, report(text))
    for written in (index.read_text(), (index.parent / "model_card.md").read_text()):
        assert "a&b" not in written and "a&amp;b" not in written and "e&gt;f" not in written and 'b"c' not in written
        assert written.count("alpha") == written.count("omega") > 5


def test_an_empty_report_is_a_page(tmp_path: Path) -> None:
    page = Page(write_report(tmp_path, RunReport(title="Nothing yet")).read_text())
    assert page.text["h1"] == ["Nothing yet"]
    assert page.sources == [] and "section" not in page.tags
    assert model_card(RunReport(title="Nothing yet")).startswith("# Nothing yet\n")


def test_a_second_report_replaces_the_first(tmp_path: Path) -> None:
    write_report(tmp_path, report("one"))
    assert "one" not in Page(write_report(tmp_path, report("other")).read_text()).text["h1"]


def test_an_example_without_pixels_is_listed_without_an_image(tmp_path: Path) -> None:
    empty = Example("broken", np.zeros((0, 0), np.uint8), "a", "")
    page = Page(write_report(tmp_path, RunReport(title="x", examples=[empty])).read_text())
    assert page.sources == [] and "(nothing)" in page.text["mark"]


def test_colors_of_an_example_are_kept(tmp_path: Path) -> None:
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 250
    write_report(tmp_path, RunReport(title="x", examples=[Example("a", red, "a", "a")]))
    stored = cv2.imread(str(tmp_path / "examples" / "0000.png"))
    assert stored is not None
    assert (stored[..., 2] == 250).all() and (stored[..., :2] == 0).all()


def test_the_card_says_how_to_use_it_and_what_it_cannot() -> None:
    run = RunReport(
        title="Recognizer",
        headlines=HEADLINES,
        details=DETAILS,
        metrics={
            "test": {"exact_match": 0.6, "count": 900},
            "test, printed": {"exact_match": 0.7},
            "test, handwritten": {"exact_match": 0.5},
            "test, always answering 'x'": {"exact_match": 0.01},
        },
        sources={
            "printed": {"exact_match": 0.7},
            "handwritten": {"exact_match": 0.5, "count": 400},
            "unread": {"exact_match": math.nan},
        },
        examples=[Example("a", image(), "a + ```b", "a - b")],
        checkpoint="runs/my run/best",
    )
    card = model_card(run)
    assert "python -m trainers.predict 'runs/my run/best' IMAGES OUT" in card
    assert "| test, handwritten | 50.0 % | – |" in card
    assert "weakest on handwritten: 50.0 % exact match (400 images of the test split)" in card
    assert "truth       a + ```b" in card and "\n````\n" in card  # the fence is longer than what it holds


def test_text_cannot_break_out_of_the_card() -> None:
    card = model_card(report(HOSTILE))
    outside = "".join(part for index, part in enumerate(card.split("```")) if index % 2 == 0)
    assert "<script" not in outside.replace("\\<", "")
    table = [line for line in card.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1


@pytest.mark.parametrize(
    ("license_text", "restricted"),
    [
        ("Apache-2.0", False),
        ("CC BY 4.0", False),
        ("", False),
        ("CC BY-NC-SA 3.0", True),
        ("Research only", True),
        ("for academic use", True),
    ],
)
def test_a_license_for_research_is_said_in_card_and_page(tmp_path: Path, license_text: str, restricted: bool) -> None:
    run = RunReport(title="x", dataset={"name": "CROHME", "license": license_text})
    assert ("licensed for research only" in model_card(run)) is restricted
    assert ("licensed for research only" in write_report(tmp_path, run).read_text()) is restricted
