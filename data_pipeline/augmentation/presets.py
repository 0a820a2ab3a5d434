"""Presets: names for whole augmentations, written as a configuration would write them."""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, list[Any]] = {
    "none": [],
    # Lines of writing: small warps, tone and noise, a little or a lot.
    "light": ["distort"],
    "strong": [
        {
            "distort": {
                "p_affine": 0.7,
                "rotate": 4,
                "shear_x": 12,
                "shear_y": 2,
                "scale": 0.8,
                "shift": 0.02,
                "p_elastic": 0.3,
                "elastic": 1.5,
                "p_blur": 0.25,
                "p_tone": 0.5,
                "brightness": 0.2,
                "contrast": 0.25,
                "p_noise": 0.3,
                "noise": [0.01, 0.06],
            }
        }
    ],
    # Letters strewn over a square board: no direction is up.
    "boards": [
        "rotate_90",
        {"shift_scale_rotate": {"shift": 0.0625, "scale": 0.1, "degrees": 15, "border": "reflect", "p": 0.5}},
        {"cutout": {"holes": 1, "size": 0.3, "fill": 0, "p": 0.5}},
    ],
    "flips": [{"flip": {"horizontal": 0.6, "vertical": 0.6}}, {"rotate": {"degrees": 40, "border": "black", "p": 1}}],
    # Printed formulas, by albumentations.
    "formulas": [
        {
            "albumentations": [
                {
                    "Sequential": {
                        "transforms": [
                            {
                                "ShiftScaleRotate": {
                                    "shift_limit": 0,
                                    "scale_limit": [-0.15, 0],
                                    "rotate_limit": 1,
                                    "interpolation": 3,
                                    "border_mode": 0,
                                    "fill": 255,
                                    "p": 1,
                                }
                            },
                            {
                                "GridDistortion": {
                                    "distort_limit": 0.1,
                                    "interpolation": 3,
                                    "border_mode": 0,
                                    "fill": 255,
                                    "p": 0.5,
                                }
                            },
                        ],
                        "p": 0.15,
                    }
                },
                {"InvertImg": {"p": 0.15}},
                {"RGBShift": {"r_shift_limit": 15, "g_shift_limit": 15, "b_shift_limit": 15, "p": 0.3}},
                {"GaussNoise": {"std_range": [0, 0.0124], "p": 0.2}},  # a variance of up to 10 of 255 squared
                {"RandomBrightnessContrast": {"brightness_limit": 0.05, "contrast_limit": [-0.2, 0], "p": 0.2}},
                {"ImageCompression": {"quality_range": [95, 100], "p": 0.3}},
                {"Sharpen": {"p": 0.5}},
            ]
        }
    ],
}
