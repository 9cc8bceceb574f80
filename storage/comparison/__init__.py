"""The files of a project beside its rows: what is new, what is missing, what differs. Changes no file."""
