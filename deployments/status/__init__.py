"""What `photojobs status` and the commands that list rows show.

`queue_status` reads what `photojobs status` shows, `queue_figures` reads lanes, projects, jobs and items, and
`planned_runs` reads the next runs of schedules.
"""
