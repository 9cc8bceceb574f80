"""Numbers for Prometheus: `queue_collector` reads them from the tables at each scrape, and `endpoint` serves them."""
