"""The matrix: what holds on which architecture of mlx-lm, each checked on a small model of its own.

    checks.py   the checks, one a column
    rows.py     a row: every check on one architecture, in a process of its own
    page.py     the table as people read it
    equality.py, equality_page.py   how far one-pass is from stepwise, component by component

A cell is a pass, or a reason from `models/sources/miniatures/reasons.py` that the check's failure must match;
whatever else is seen is a fault.
"""
