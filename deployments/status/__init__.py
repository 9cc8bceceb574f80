"""What `photojobs status` and the commands that list rows show.

`queue_status` reads what `photojobs status` shows, `listed_rows` reads lanes, projects, jobs and items, and
`scheduled_runs` reads the next runs of schedules.
"""
