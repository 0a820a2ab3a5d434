"""Timings beside their peers. Nothing here is a test: nothing fails on a time."""
