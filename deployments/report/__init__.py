"""A task as one self-contained HTML page."""
