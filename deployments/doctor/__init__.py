"""Checks everything that photojobs needs: one module for each subject; findings say what to do."""
