"""Makes one self-contained HTML page about a task: `task_report` reads the content, and `page` renders it."""
