"""Importer of CROHME: online handwritten formulas (InkML), read, captioned and drawn by pure functions, without Ray.

The data set is Mouchère et al., "ICDAR 2019 CROHME + TFD" and its forerunners (IAPR TC-11), for research only.
"""
