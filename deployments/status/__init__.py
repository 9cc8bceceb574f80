"""What `status`, listings and forms show.

`queue_status` reads what `photojobs status` shows, `queue_figures` lanes, projects and jobs, and `planned_runs` the
next runs of schedules.
"""
