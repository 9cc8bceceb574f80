"""What a process says of its work: events, log lines, spans, and results as Markdown."""
