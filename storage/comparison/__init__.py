"""Compares a project's files with its rows, and finds new, missing and different files. Changes no file."""
