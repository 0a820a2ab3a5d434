"""Importers of labeled images: readers that list images and their labels without decoding, and the rows made of them.

A reader (`folder`, `letters`, `manifest`) returns a `LabelSource`: each input is an item or is rejected with its reason.
"""
