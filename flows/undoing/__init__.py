"""Undoing a task: its journal read backwards, files put where they were, and rows made to say what they said."""
