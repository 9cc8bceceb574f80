"""Reads and writes the rows of projects, photos, tags, originals and derivatives, and selects photos."""
