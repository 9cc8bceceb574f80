"""The life of jobs, items and tasks as rows: how they are written, kept alive and ended, and what an ending starts."""
