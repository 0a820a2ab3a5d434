"""The commands as a user calls them: what they print, and one line with status 2 for a mistake."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from cluster.errors import UserError
from data_pipeline import bench, explore, prepare, synthesize
from data_pipeline.explore import describe
from data_pipeline.preparation.images import decode
from tests.support.fold_datasets import write_fold_dataset
from tests.support.ink_document import inkml
from tests.support.places import ROOT
from tests.support.stroke_count import write_stroke_dataset


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )


def test_exploring_prints_and_draws(
    formulas: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = tmp_path / "new" / "grid.png"
    monkeypatch.setattr("sys.argv", ["explore", formulas, "--grid", str(grid), "--where", "widest", "--count", "9"])
    assert explore.main() == 0
    printed = capsys.readouterr().out
    for said in ("train: 300 rows in 1 shards", "val: 40 rows", "test: 40 rows", "rejected: 0", "license: ", f"Grid {grid}"):
        assert said in printed
    drawn = decode(grid.read_bytes(), "rgb")
    assert drawn.shape[1] > 1000 and np.unique(drawn).size > 20


def test_augmented_images_are_those_of_training_beside_what_they_come_from(
    formulas: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "sheet.png"
    chain = "[{cutout:{size:0.5,fill:0,p:1}},{albumentations:{InvertImg:{p:1}}}]"
    monkeypatch.setattr("sys.argv", ["explore", formulas, "--augmented", str(sheet), "--augmentation", chain, "--count", "3"])
    assert explore.main() == 0
    assert f"Augmented images {sheet}" in capsys.readouterr().out
    drawn = decode(sheet.read_bytes(), "gray").astype(float)
    cards = [drawn[:, 10 + 250 * column :][:, :240].mean() for column in range(6)]
    assert drawn.shape[1] == 10 + 6 * 250 and min(cards[0] - np.array(cards[1:])) > 20, "inverted paper is dark"


def test_a_dataset_without_a_list_of_rejected_inputs_is_described(tmp_path: Path) -> None:
    assert describe(write_stroke_dataset(tmp_path, train=5)).endswith("rejected: 0")


def test_a_missing_dataset_is_one_line_and_status_2(tmp_path: Path) -> None:
    done = command("data_pipeline.explore", str(tmp_path))
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"error: No dataset at '{tmp_path}'") and done.stderr.count("\n") == 1


def test_preparing_a_few_files_from_end_to_end(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "ink", tmp_path / "out"
    source.mkdir()
    (source / "good.inkml").write_bytes(inkml(latex="$a + b$"))
    (source / "empty.inkml").write_bytes(b"")
    monkeypatch.setattr("sys.argv", ["prepare", "crohme", str(source), str(out), "--height", "32", "--width", "64"])
    assert prepare.main() == 0
    printed = capsys.readouterr()
    assert "train 1 formulas, 1 rejected (see rejected.parquet), 3 tokens" in printed.out and "License" in printed.out
    assert "Traceback" not in printed.err and (out / "dataset.json").is_file()


LONG = "x" * 300
MISTAKES = [
    (synthesize, ["formulas", "out", "--count", "0"], "argument --count: '0' is no whole number from 1"),
    (synthesize, ["formulas", "out", "--seed", "-1"], "argument --seed: '-1' is no whole number from 0"),
    (synthesize, ["formulas", "out", "--seed", "5000000000"], "argument --seed: '5000000000'"),
    (synthesize, ["formulas", "out", "--width", "1_0"], "argument --width: '1_0'"),
    (synthesize, ["formulas", "out", "--height", "99999999"], "argument --height: '99999999' .* to 16384"),
    (synthesize, ["formulas", "~nouser/out"], "'~nouser/out' is no path"),
    (synthesize, ["formulas", "bogus://out"], "bogus://"),
    (synthesize, ["pictures", "out"], "invalid choice: 'pictures'"),
    (synthesize, ["letters", "out", "--glyphs", "absent"], "No glyphs 'absent'"),
    (synthesize, ["letters", "out", "--glyphs", "absent", "--writers", "3"], "--writers is for letters that Inkray strokes"),
    (synthesize, ["letters", "out", "--easy", "--noise", "9"], "--easy is without noise, and --noise 9 asks for it"),
    (synthesize, ["letters", "out", "--letters", "9", "3"], "min_letters=9 is more than max_letters=3"),
    (synthesize, ["letters", "out", "--scale", "1", "7"], "argument --scale: '7' is not a number from 0.25 to 6"),
    (synthesize, ["letters", "out", "--size", "2048"], "argument --size: '2048' is no whole number from 16 to 1024"),
    (synthesize, ["letters", "out", "--folds", "3", "--writers", "2"], "each of the 3 folds needs a writer of its own"),
    (synthesize, ["letters", "out", "--folds", "3", "--val-count", "9"], "--folds puts folds in the place of the split val"),
    (synthesize, ["faces", "out", "--folds", "5", "--count", "20"], "--folds 5: --count 20 is too few"),
    (synthesize, ["faces", "out", "--correlation", "2"], "argument --correlation: '2' is not a number from 0 to 1"),
    (prepare, ["crohme", "absent", "out"], "No source 'absent'"),
    (prepare, ["crohme", LONG, "out"], "No source 'xxx.*File name too long"),
    (prepare, ["crohme", ".", "~nouser/out"], "'~nouser/out' is no path"),
    (prepare, ["crohme", ".", "out", "--height", "8"], "argument --height: '8' is no whole number from 16"),
    (prepare, ["crohme", ".", "out", "--stroke-size", "nan"], "argument --stroke-size: 'nan' is not a number from 4"),
    (prepare, ["crohme", ".", "out", "--stroke-size", "1e300"], "argument --stroke-size: '1e300'"),
    (prepare, ["crohme", ".", "out", "--split", "train"], "--split takes NAME=PATH"),
    (prepare, ["crohme", ".", "out", "--split", "train=absent"], "No source 'absent'"),
    (prepare, ["crohme", ".", "out", "--split", "=."], "name of a split"),
    (explore, ["absent", "--count", "0"], "argument --count: '0'"),
    (bench, ["nowhere"], "No dataset at 'nowhere'"),
    (explore, ["absent", "--augmentation", "boards"], "--augmentation is drawn where --augmented FILE.png says"),
    (explore, ["~nouser/x"], "'~nouser/x' is no path"),
    (explore, [LONG], "Cannot use '.*xxx"),
    (bench, ["absent", "--seconds", "nan"], "argument --seconds: 'nan'"),
    (bench, ["absent", "--batch-size", "many"], "argument --batch-size: 'many'"),
    (bench, ["absent", "task_cpus=nan"], "stream.task_cpus=nan: a finite number"),
    (bench, ["absent", "threads=010", "cache.limit_mb=1e3"], "'cache.limit_mb' .* '1e3' is no whole number"),
]


@pytest.mark.parametrize(("module", "arguments", "said"), MISTAKES)
def test_mistakes_on_the_command_line_are_named(
    module: ModuleType, arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["command", *arguments])
    monkeypatch.setenv("RAY_ADDRESS", "ray://nowhere.invalid:1")  # to start a session would be another error
    with pytest.raises((UserError, SystemExit)) as raised:
        module.main()
    message = str(raised.value) if isinstance(raised.value, UserError) else capsys.readouterr().err
    assert re.search(said, message), message
    assert isinstance(raised.value, UserError) or (isinstance(raised.value, SystemExit) and raised.value.code == 2)


def test_a_grid_that_cannot_be_written_is_known_before_the_dataset_is_read(
    formulas_dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["explore", formulas_dataset, "--grid", "/proc/nowhere/grid.png"])
    with pytest.raises(UserError, match=r"--grid: cannot write '/proc/nowhere/grid\.png'"):
        explore.main()
    (tmp_path / "notes.png").write_text("mine")
    for name, said in (("notes.txt", "no name of a PNG file"), ("notes.png", "is there, and no PNG")):
        for option in ("--grid", "--augmented"):
            monkeypatch.setattr("sys.argv", ["explore", formulas_dataset, option, str(tmp_path / name)])
            with pytest.raises(UserError, match=f"{option}: .*{said}"):
                explore.main()
    assert (tmp_path / "notes.png").read_text() == "mine" and not (tmp_path / "notes.txt").exists()


def test_an_augmentation_that_is_none_is_named(formulas_dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for written, said in (("bords", "Did you mean boards"), ("[rotate_90", "not valid YAML"), ("[{blur:{p:2}}]", r"blur\.p=2")):
        monkeypatch.setattr("sys.argv", ["explore", formulas_dataset, "--augmented", "x.png", "--augmentation", written])
        with pytest.raises(UserError, match=said):
            explore.main()


def test_an_older_name_of_an_option_names_the_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["explore", "/nowhere", "--sheet", "sheet.png"])
    with pytest.raises(UserError, match="--sheet was renamed to --grid"):
        explore.main()


def test_exploring_a_dataset_in_folds_draws_its_first_and_counts_all_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    classes = [str(number) for number in range(12)]
    rows = [{"label": classes[11 - number % 12]} for number in range(48)]
    write_fold_dataset(tmp_path / "folds", "multiclass", {"classes": classes}, rows, folds=2)
    monkeypatch.setattr("sys.argv", ["explore", str(tmp_path / "folds"), "--grid", str(tmp_path / "grid.png"), "--count", "2"])
    assert explore.main() == 0 and (tmp_path / "grid.png").exists()
    printed = capsys.readouterr().out
    assert "label: 1: 4, 3: 4, 5: 4, 7: 4, 9: 4, 11: 4\n" in printed
    assert explore._counted(classes * 2) == "0: 2, 1: 2, 2: 2, 3: 2, 4: 2, 5: 2, 6: 2, 7: 2 and 4 more"


def test_exploring_an_empty_or_missing_split_is_named(formulas: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["explore", formulas, "--split", "dev", "--grid", "grid.png"])
    with pytest.raises(UserError, match=r"no split 'dev'\. It has: train, val, test"):
        explore.main()


@pytest.mark.parametrize(
    ("modules", "unwanted"),
    [
        ("data_pipeline.explore, data_pipeline.prepare, data_pipeline.synthesize, data_pipeline.stream", "torch"),
        ("data_pipeline.explore", "matplotlib"),
    ],
)
def test_no_command_pays_for_what_it_may_not_need(modules: str, unwanted: str) -> None:
    """torch takes seconds to import, in every process that reads; only those that train need it, as a sheet does matplotlib."""
    program = f"import sys, {modules}; print({unwanted!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
