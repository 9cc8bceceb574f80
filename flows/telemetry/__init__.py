"""Reports of a process about its work: events, log lines, spans, and results as Markdown."""
