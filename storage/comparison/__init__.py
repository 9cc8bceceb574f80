"""Compares a project's files with its rows: finds new, missing and different files. Changes no file."""
