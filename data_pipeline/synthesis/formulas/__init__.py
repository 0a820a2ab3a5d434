"""Synthetic formulas with their LaTeX: printed and in a handwriting style."""
