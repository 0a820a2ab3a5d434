"""Drawing of a person's face: hair, head and features, from the back to the front."""

from __future__ import annotations

import numpy as np

from data_pipeline.synthesis.faces.person import Person
from data_pipeline.synthesis.faces.sketch import Color, Point, Sketch, mixed, shaded

_EYES_Y, _NOSE_Y, _MOUTH_Y = -0.08, 0.33, 0.6  # heights of the eyes, of the tip of the nose and of the mouth
_WHITE: Color = (245, 244, 240)


def _both(right: list[Point]) -> list[Point]:
    """The points of the right half of a shape, and those of its left half in reverse; a point in the middle is there once."""
    return [*right, *[(-x, y) for x, y in reversed(right) if x]]


def draw_back(sketch: Sketch, person: Person, clothes: Color) -> None:
    """Draw what is behind the face: hair that hangs down, neck and shoulders."""
    dark = shaded(person.hair, 0.75)
    w = person.width
    if person.style == "long":
        sketch.blob([(0, -1.22), *_both([(w + 0.2, -0.3), (w + 0.24, 0.9), (w, 1.5)])], dark)
    elif person.style == "bob":
        sketch.blob([(0, -1.2), *_both([(w + 0.18, -0.3), (w + 0.2, 0.5), (w, 0.86)])], dark)
    elif person.style == "bun":
        sketch.ellipse((0.1 * person.parting, -1.28), (0.3, 0.26), dark)
    neck = 0.36 + 0.2 * (person.jaw - 0.68)
    sketch.polygon([(-neck, 0.5), (neck, 0.5), (neck + 0.05, 1.6), (-neck - 0.05, 1.6)], shaded(person.skin, 0.82))
    sketch.blob([(-1.6, 2.6), (-1.35, 1.5), (-0.5, 1.25), (0, 1.38), (0.5, 1.25), (1.35, 1.5), (1.6, 2.6)], clothes)


def draw_head(sketch: Sketch, person: Person) -> None:
    """Draw ears and the head, with its lower half in the shadow of a beard, if there is one."""
    w, jaw = person.width, person.width * person.jaw
    for side in (-1, 1):
        sketch.ellipse((side * (w + 0.02), 0.02), (0.1, 0.19), shaded(person.skin, 0.9))
        if person.earrings:
            sketch.ellipse((side * (w + 0.03), 0.26), (0.05, 0.05), (236, 206, 96))
    outline = [(0.72 * w, -0.8), (w, -0.3), (w * 0.97, 0.2), (jaw, 0.65), (0.4 * jaw, 0.97)]
    sketch.blob([(0, -1.0), *_both([*outline, (0, 1.02)])], person.skin)
    if person.beard:
        cheek = [(w * 0.9, 0.3), (jaw * 0.98, 0.65), (0.4 * jaw, 0.97), (0, 1.03)]
        color = mixed(person.skin, shaded(person.hair, 0.9), person.beard)
        sketch.blob([*_both(cheek), (-0.3, 0.47), (0, 0.42), (0.3, 0.47)], color)


def draw_hair(sketch: Sketch, person: Person) -> None:
    """Draw the hair above the forehead."""
    w, hair = person.width, person.hair
    line = -0.5 - 0.28 * person.receding  # height of the hair line
    if person.style == "bald":
        for side in (-1, 1):
            tuft = [(w, -0.45), (w + 0.06, -0.1), (w - 0.08, 0.06), (w - 0.1, -0.3)]
            sketch.blob([(side * x, y) for x, y in tuft], hair)
        return
    crop = person.style == "crop"
    top = -1.06 if crop else -1.2
    out = w + (0.03 if crop else 0.1)
    low = -0.12 if crop else (0.02 if person.style == "short" else 0.25)
    crown = [(-out, low), (-out, -0.5), (-0.62 * w, top + 0.12), (0, top), (0.62 * w, top + 0.12), (out, -0.5), (out, low)]
    inner = w - 0.1
    if crop:
        forehead = [(inner, low), (inner - 0.04, line), (0, line - 0.14), (-inner + 0.04, line), (-inner, low)]
    else:
        middle = person.parting * w
        lift = 0.3 * person.fringe
        forehead = [
            (inner, low),
            (inner - 0.02, line + 0.1),
            (0.5 * (inner + middle), line + 0.06 - 0.5 * lift),
            (middle, line - 0.1 - 0.6 * lift),
            (0.5 * (middle - inner), line + 0.06 - 0.5 * lift),
            (-inner + 0.02, line + 0.1),
            (-inner, low),
        ]
    sketch.blob([*crown, *forehead], hair)
    light = mixed(hair, (255, 255, 255), 0.16)
    sketch.line([(-0.45 * w, top + 0.22), (-0.1, top + 0.12), (0.25 * w, top + 0.17)], light, 0.05)


def draw_features(sketch: Sketch, person: Person, yaw: float, smile: float, opened: float, gaze: float) -> None:
    """Draw brows, eyes, nose, mouth and wrinkles, moved to the side by `yaw`, to which the head is turned."""
    dark = shaded(person.skin, 0.62)
    _draw_wrinkles(sketch, person, yaw)
    for side in (-1, 1):
        x, size = yaw + side * person.eye_distance * (1 - 0.25 * side * yaw), person.eye_size
        sketch.ellipse((x, _EYES_Y), (size, size * 0.58), _WHITE)
        pupil = (x + 0.35 * size * gaze, _EYES_Y)
        sketch.ellipse(pupil, (size * 0.48, size * 0.52), person.eyes)
        sketch.ellipse(pupil, (size * 0.22, size * 0.26), (14, 12, 12))
        lid = [(x - size, _EYES_Y + 0.01), (x, _EYES_Y - 0.62 * size), (x + size, _EYES_Y + 0.01)]
        sketch.line(lid, (40, 28, 24), 0.02 + 0.045 * person.lashes)
        brow = [(x - 1.25 * size, -0.27), (x, -0.34 - 0.02 * smile), (x + 1.25 * size, -0.27)]
        sketch.line(brow, mixed(shaded(person.hair, 0.8), person.skin, 0.1), person.brow)
    tip = yaw * 1.35
    sketch.line([(yaw * 1.1 + 0.05, -0.02), (tip + 0.09, 0.2), (tip + 0.1, _NOSE_Y)], shaded(person.skin, 0.8), 0.03)
    wide = 0.36 * person.nose
    sketch.line([(tip - wide, _NOSE_Y), (tip, _NOSE_Y + 0.05), (tip + wide, _NOSE_Y)], dark, 0.045)
    x, half, bend = yaw * 1.1, person.mouth, 0.11 * smile
    upper, lower = 0.035 + 0.01 * opened, 0.07 + 0.1 * opened
    mouth = [(x - half, _MOUTH_Y - bend), (x, _MOUTH_Y - upper), (x + half, _MOUTH_Y - bend), (x, _MOUTH_Y + lower)]
    sketch.blob(mouth, person.lips)
    inner = [(x - 0.85 * half, _MOUTH_Y - 0.8 * bend), (x, _MOUTH_Y + 0.012), (x + 0.85 * half, _MOUTH_Y - 0.8 * bend)]
    if opened > 0.4:
        sketch.blob([*inner, (x, _MOUTH_Y + 0.8 * lower)], _WHITE)
    sketch.line(inner, shaded(person.lips, 0.5), 0.025)


def _draw_wrinkles(sketch: Sketch, person: Person, yaw: float) -> None:
    if person.wrinkles < 0.1:
        return
    fold = shaded(person.skin, 1 - 0.36 * person.wrinkles)
    for side in (-1, 1):
        x = yaw + side * person.eye_distance
        sketch.line([(x - 0.11, 0.06), (x, 0.1), (x + 0.11, 0.06)], fold, 0.03)  # below the eye
        sketch.line([(yaw + side * 0.17, 0.32), (yaw + side * 0.27, 0.46), (yaw + side * 0.33, 0.68)], fold, 0.035)
        if person.wrinkles > 0.6:
            for dy in (-0.06, 0.03, 0.11):
                start = (x + side * 0.19, _EYES_Y + 0.02 + dy * 0.5)
                sketch.line([start, (x + side * 0.31, _EYES_Y + 0.02 + dy)], fold, 0.025)
    for y in np.linspace(-0.46, -0.6, 1 + round(2 * person.wrinkles)):
        sketch.line([(yaw - 0.36, y + 0.02), (yaw, y), (yaw + 0.36, y + 0.02)], fold, 0.03)


def draw_glasses(sketch: Sketch, person: Person, yaw: float, frame: Color) -> None:
    """Draw the frame of glasses, and the temples to the ears."""
    if not person.glasses:
        return
    for side in (-1, 1):
        x, r = yaw + side * person.eye_distance, 0.2
        if person.round_glasses:
            points = [(x + r * np.cos(a), _EYES_Y + r * np.sin(a)) for a in np.linspace(0, 2 * np.pi, 9)[:-1]]
        else:
            points = [(x - r, -0.2), (x, -0.23), (x + r, -0.2), (x + 0.9 * r, 0.08), (x, 0.11), (x - 0.9 * r, 0.08)]
        sketch.line(points, frame, 0.045, closed=True)
        sketch.line([(x + side * r, _EYES_Y - 0.06), (side * person.width, _EYES_Y - 0.04)], frame, 0.04)
    sketch.line([(yaw - 0.1, _EYES_Y - 0.03), (yaw, _EYES_Y - 0.07), (yaw + 0.1, _EYES_Y - 0.03)], frame, 0.04)


def draw_mask(sketch: Sketch, person: Person, yaw: float, top: float, color: Color) -> None:
    """Draw a mask whose upper edge is at the height `top` in the middle: above the tip of the nose, or wrongly below it."""
    w, jaw = person.width, person.width * person.jaw
    height = 1.06 - top
    corner, bottom = top + 0.12 * height, top + 0.8 * height
    reach = (w if top < 0.5 else jaw) * 0.9
    strap = shaded(color, 0.85)
    for side in (-1, 1):
        sketch.line([(side * reach * 0.95, corner + 0.02), (side * (w + 0.02), -0.02)], strap, 0.035)
        sketch.line([(side * jaw * 0.9, bottom - 0.05), (side * (w + 0.02), 0.14)], strap, 0.035)
    edge = [(reach, corner), (jaw * 0.97, bottom), (0.42 * jaw, 1.06)]
    middle = (yaw * 1.2, top)
    shape = [*_both([*edge, (0, 1.1)]), (-0.5 * reach + 0.5 * yaw, top + 0.02), middle]
    sketch.blob([*shape, (0.5 * reach + 0.5 * yaw, top + 0.02)], color)
    fold = shaded(color, 0.86)
    for share in (0.3, 0.5, 0.7) if height > 0.5 else (0.5,):
        y = top + share * height
        sketch.line([(-0.8 * jaw, y), (yaw, y + 0.04), (0.8 * jaw, y)], fold, 0.025)
