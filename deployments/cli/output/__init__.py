"""What commands print.

`terminal` prints tables and messages, `progress` shows a running task, `summary` prints how a task ended, and
`help_pages` builds help pages from docstrings and `examples`.
"""
