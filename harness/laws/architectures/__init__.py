"""Grids over the architectures of mlx-lm, a small model of each: what holds where.

    kind.py        what a grid over architectures is: a row, what the text of a cell means, a page
    matrix.py      every check on one architecture; the checks are in checks.py
    equality.py, equality_page.py     how far one-pass is from stepwise, component by component
    reference.py, reference_page.py   how far mlx-lm is from transformers

A cell is a pass or a figure, or a reason. Reasons of the first two are in `models/sources/miniatures/reasons.py`, and
must match what is seen; whatever else is seen is a fault.
"""
