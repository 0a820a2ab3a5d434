"""A fuzz of `predict`: mutated images, and lists as systems write them; every input has to be accounted for.

    python -m tests.support.fuzz_predict images --count 10000 --seed 0     # one real command over a folder of so many files
    python -m tests.support.fuzz_predict lists --count 1000 --seed 0       # so many commands in this process, without Ray

Each input is a row, a row with an error, or named as no image; nothing is a traceback; the exit status is 0, or of a list 2
with one message. Ends with a table, and with status 1 if something else happened. A short form of both is in the tests.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from cluster.progress import progress
from tests.support.checkpoints import write_checkpoint
from tests.support.commands import command_here
from tests.support.predict_here import without_ray
from trainers.prediction.names import id_of
from trainers.prediction.parts import part_name
from trainers.prediction.run_job import LEFT_OUT

MODES = ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16"]
SIZES = [(1, 1), (1, 90), (90, 1), (3, 2), (40, 24)]
ODD_NAMES = [b"caf\xe9", "数式".encode(), b"a#page=2", b"a\\xe9", b" lead", b"new\nline", b"esc\x1b[31m", b"q?%41"]
Results = collections.Counter[tuple[str, str]]  # how many inputs of a kind came out so
SUFFIXES = ["", ".png", ".jpg", ".tif", ".gif", ".txt", ".json", ".PNG", ".dat"]


def originals(rng: random.Random) -> dict[str, list[bytes]]:
    """By format, an image of each mode, kind of transparency and size that Pillow writes in it."""
    Image.init()
    made: dict[str, list[bytes]] = {}
    noise = np.frombuffer(rng.randbytes(90 * 90 * 3), np.uint8).reshape(90, 90, 3)
    for form in sorted(Image.SAVE):
        for mode in MODES:
            for size in SIZES if mode in ("L", "RGBA") else SIZES[-1:]:
                for options in variants(form, mode):
                    with contextlib.suppress(Exception), warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        image = Image.fromarray(noise[: size[1], : size[0]])
                        image = image if mode == "RGB" else image.convert("L").convert(mode)
                        buffer = io.BytesIO()
                        image.save(buffer, form, **options)
                        made.setdefault(form, []).append(buffer.getvalue())
    for form in ("TIFF", "GIF", "PNG", "WEBP", "AVIF"):
        buffer = io.BytesIO()
        frames = [Image.new("RGB", (20, 10), (shade, 0, 0)) for shade in (0, 90, 180)]
        frames[0].save(buffer, form, save_all=True, append_images=frames[1:])
        made[form].append(buffer.getvalue())
    return made


def variants(form: str, mode: str) -> list[dict[str, Any]]:
    """Ways to write an image of a mode."""
    ways: list[dict[str, Any]] = [{}]
    if form in ("PNG", "GIF") and mode in ("L", "P", "RGB", "1"):
        ways.append({"transparency": (1, 2, 3) if mode == "RGB" else 0})
    if form == "TIFF":
        ways += [{"compression": name} for name in ("tiff_lzw", "tiff_deflate", "packbits")]
        ways += [{"compression": "group4"}] * (mode == "1") + [{"compression": "jpeg"}] * (mode in ("L", "RGB"))
        ways.append({"big_tiff": True})
    return ways


def mutated(rng: random.Random, data: bytes, other: bytes) -> tuple[str, bytes]:
    """`data` damaged in one way, which is named; `other` is an image to take a header or an end from."""
    kind = rng.choice(["as it is", "bits", "cut", "header", "splice", "number", "zeros", "twice", "empty"])
    broken = bytearray(data)
    at = rng.randrange(len(data))
    if kind == "bits":
        for _ in range(rng.choice([1, 3, 20])):
            broken[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del broken[at:]
    elif kind == "header":
        for _ in range(3):
            broken[rng.randrange(min(64, len(data)))] = rng.randrange(256)
    elif kind == "splice":
        broken = broken[:at] + other[rng.randrange(len(other)) :]
    elif kind == "number":
        value = rng.choice([0, 1, 2**16 - 1, 2**31 - 1, 2**32 - 1]).to_bytes(4, rng.choice(["little", "big"]))
        broken[at : at + 4] = value
    elif kind == "zeros":
        broken[at : at + 40] = bytes(len(broken[at : at + 40]))
    elif kind == "twice":
        broken[at:at] = broken[at : at + rng.choice([1, 7, 100])]
    elif kind == "empty":
        broken.clear()
    return kind, bytes(broken)


def make_images(folder: Path, count: int, seed: int) -> dict[str, str]:
    """Write `count` files below `folder`; by id, what each is."""
    rng = random.Random(seed)
    made = originals(rng)
    forms = sorted(made)
    kinds: dict[str, str] = {}
    (folder / "sub").mkdir(parents=True)
    for number in range(count):
        form = rng.choice(forms)
        kind, data = mutated(rng, rng.choice(made[form]), rng.choice(made[rng.choice(forms)]))
        suffix = rng.choice([*SUFFIXES, f".{form.lower()}"])
        name = (b"sub/" if number % 7 == 0 else b"") + b"%d" % number
        name += (rng.choice(ODD_NAMES) if number % 5 == 0 else b"") + suffix.encode()
        with open(os.fsencode(folder) + b"/" + name, "wb") as file:
            file.write(data)
        kinds[id_of(os.fsdecode(name))] = f"{form} {kind}"
    return kinds


def outcomes(out: Path, names: dict[str, str]) -> tuple[Results, list[str]]:
    """How many files of each (format and mutation) came out how, and what is wrong."""
    table = pa.concat_tables(pq.read_table(file) for file in sorted(out.glob("predictions-*.parquet"))).to_pylist()
    left_out = json.loads((out / LEFT_OUT).read_bytes()) if (out / LEFT_OUT).exists() else []
    found: dict[str, str] = {one["path"]: one["reason"] for one in left_out}
    wrong = [f"{name} is both left out and a row" for name in found.keys() & {row["id"] for row in table}]
    for row in table:
        found.setdefault(row["id"], "error" if row["error"] else "warning" if row["warning"] else "read")
    rows = collections.Counter(row["id"] for row in table)
    wrong += [f"{name!r} has {count} rows" for name, count in rows.items() if count > 1]
    wrong += [f"{name!r} ({kind}) is not accounted for" for name, kind in names.items() if name not in found]
    pages = [name for name in found if name not in names and name.rpartition("#page=")[0] not in names]
    wrong += [f"{name!r} is no input" for name in pages]
    return collections.Counter((names[name], found[name]) for name in names if name in found), wrong


def make_list(rng: random.Random, folder: Path, names: list[str]) -> tuple[bytes, set[str] | None]:
    """A list as some system writes it, and the ids that have to come of it; None where its bytes are damaged."""
    chosen = rng.sample(names, rng.randint(1, len(names)))
    missing = {f"gone{i}.png" for i in range(rng.choice([0, 0, 1, 3]))}
    lines = [*chosen, *missing]
    rng.shuffle(lines)
    form = rng.choice(["plain", "tabs", "commas", "semicolons", "backslashes", "absolute", "uris", "quoted"])
    columns, separator = ["x y", "3"], {"tabs": "\t", "commas": ",", "semicolons": ";"}.get(form, "")
    if form == "backslashes":
        lines = [rng.choice([f"images\\{name}", f".\\images\\{name}"]) for name in lines]
    elif form == "absolute":
        lines = [str(folder / "images" / name) for name in lines]
    elif form == "uris":
        lines = [f"file://{folder}/images/{name}" for name in lines]
    ids = set(lines)
    texts = list(lines)
    if separator:
        quoted = rng.random() < 0.5
        texts = [separator.join([f'"{line}"' if quoted or separator in line else line, *columns]) for line in lines]
        if rng.random() < 0.5:
            texts.insert(0, separator.join(["filename", "label", "level"]))
    elif form == "quoted":
        texts = [f'"{line}"' for line in lines]
    if rng.random() < 0.3:
        texts.insert(rng.randrange(len(texts) + 1), "")
    text = rng.choice(["\n", "\r\n", "\r"]).join(texts) + rng.choice(["", "\n"])
    data = text.encode(rng.choice(["utf-8", "utf-8-sig", "utf-16", "utf-32"]))
    damage = rng.random()
    if damage < 0.05:
        return rng.randbytes(rng.randrange(200)), None
    if damage < 0.15:
        return mutated(rng, data, rng.randbytes(50))[1], None
    if damage < 0.2:
        return (text + "\n" + texts[-1]).encode(), None
    return data, ids


def fuzz_lists(scratch: Path, checkpoint: Path, count: int, seed: int) -> tuple[Results, list[str]]:
    """Predict `count` lists."""
    rng = random.Random(seed)
    names = ["a.png", "b.tif", "c d.png", "naïve.png", "e,f.png", "sub/g.png", "h;i.png", "broken.png"]
    (scratch / "images" / "sub").mkdir(parents=True)
    for name in names:
        Image.new("L", (30, 20), len(name)).save(scratch / "images" / name)
    (scratch / "images" / "broken.png").write_bytes(b"\x89PNG")
    results: Results = collections.Counter()
    wrong: list[str] = []
    with without_ray(), progress(count, "lists", "fuzz") as bar:
        for number in range(count):
            data, ids = make_list(rng, scratch, names)
            file, out = scratch / f"list{number}", scratch / f"out{number}"
            file.write_bytes(data)
            try:
                done = command_here("trainers.predict", str(checkpoint), str(file), str(out))
                status, printed = done.returncode, done.stdout + done.stderr
            except Exception as error:
                wrong.append(f"list {number} of seed {seed}: {type(error).__name__}: {error}")
                status, printed = 1, ""
            rows: set[str] = set()
            if status == 0:
                rows = set(pq.read_table(out / part_name(0)).column("id").to_pylist())
            kind = "damaged" if ids is None else "whole"
            results[(kind, f"status {status}")] += 1
            nothing = ids is not None and all("gone" in name for name in ids)
            if ids is not None and status != (2 if nothing else 0):
                wrong.append(f"list {number} of seed {seed}: status {status}, {printed.strip()[-200:]} {data[:300]!r}")
            if ids is not None and status == 0 and rows != ids:
                wrong.append(f"list {number} of seed {seed}: rows {sorted(rows)} instead of {sorted(ids)}: {data[:300]!r}")
            if status not in (0, 2) or (status == 2 and "error: " not in printed):
                wrong.append(f"list {number} of seed {seed}: status {status}: {printed.strip()[-300:]}")
            bar.update()
    return results, wrong


def fuzz_images(scratch: Path, checkpoint: Path, count: int, seed: int) -> tuple[Results, list[str]]:
    """Predict `count` images by one command."""
    names = make_images(scratch / "images", count, seed)
    print(f"{len(names):,} files of {count:,} made in {scratch}", flush=True)
    words = [sys.executable, "-u", "-m", "trainers.predict", str(checkpoint), str(scratch / "images"), str(scratch / "out")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:  # its progress, as it comes
            print(line, end="", flush=True)
            lines.append(line)
    wrong = [f"status {process.returncode}"] if process.returncode else []
    wrong += ["a traceback"] if any("Traceback" in line for line in lines) else []
    if process.returncode:
        return collections.Counter(), wrong
    results, missing = outcomes(scratch / "out", names)
    return results, wrong + missing


def table(results: Results) -> str:
    """Counts by what an input is (down) and what became of it (across)."""
    across = sorted({outcome for _, outcome in results})
    down = sorted({kind for kind, _ in results})
    wide = max(map(len, [*down, "all"]))
    lines = [" " * wide + "".join(f"  {name:>8}" for name in across)]
    for kind in [*down, "all"]:
        counts = [sum(n for (k, o), n in results.items() if o == name and kind in (k, "all")) for name in across]
        lines.append(
            f"{kind:<{wide}}" + "".join(f"  {n:>{max(8, len(name))},}" for n, name in zip(counts, across, strict=True))
        )
    return "\n".join(lines)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["images", "lists"])
    parser.add_argument("--count", type=int, default=0, help="10,000 images, 1,000 lists")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", type=Path, help="default: a small one with random weights")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="inkray-fuzz-") as folder:
        checkpoint = args.checkpoint or Path(folder) / "checkpoint"
        if args.checkpoint is None:
            write_checkpoint(checkpoint)
        fuzz = fuzz_images if args.what == "images" else fuzz_lists
        results, wrong = fuzz(Path(folder), checkpoint, args.count or (10_000 if args.what == "images" else 1_000), args.seed)
    print(table(results))
    print(f"{args.what}, seed {args.seed}: {sum(results.values()):,} inputs, {len(wrong)} not as they should be")
    for text in wrong[:50]:
        print(f"  {text}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
