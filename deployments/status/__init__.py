"""What `status`, listings and forms show: the queue, lanes, projects, and the next runs of schedules."""
