"""Formulas written by hand: strokes per symbol, writers with a style of their own, layout and ink."""
