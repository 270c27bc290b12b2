"""Conformance: does somebody's engine obey the laws, on every shape of model?

rows       the models it is asked about
matrix     one cell for each law and model: pass, fail, or skipped with the reason
smallest   the smallest question that still shows a breach
report     JSON, JUnit, Markdown, terminal
"""
