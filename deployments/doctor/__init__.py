"""Checks everything that photojobs needs, with one module for each subject; each finding says what to do."""
