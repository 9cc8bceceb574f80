"""What commands print: tables, progress, summaries, help pages and logs."""
