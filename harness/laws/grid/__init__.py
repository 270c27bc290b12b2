"""A grid: rows x columns, each row computed in a process of its own, each cell a mark, a figure, or a numbered reason.

processes.py   rows in processes of their own: a row that crashes, hangs or fills the memory costs that row
table.py       the grid as Markdown and on the terminal, each reason once below it

The matrix of architectures, the equality table, the reference table and conformance are grids.
"""
