"""Compares a project's files with its rows, and finds new, missing and different files. Changes no file.

`part_comparison.py` decides to which photo a file belongs, and `derivative_scan.py` which derivatives are outdated.
"""
