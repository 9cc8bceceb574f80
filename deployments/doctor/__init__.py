"""Looks whether everything that photojobs needs is well: one module for each thing, findings that say what to do."""
