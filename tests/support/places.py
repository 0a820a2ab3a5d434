"""Folders that tests read: the checkout, and the shared data beside it where it is present."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
CROHME = SHARED / "data" / "crohme"
