"""Compares a project's files with its rows, and finds new, missing and different files. Changes no file.

`part_comparison.py` decides which image belongs to which row, and `derivative_scan.py` which derivatives are outdated.
"""
