"""Numbers for Prometheus, read from the tables at each scrape."""
