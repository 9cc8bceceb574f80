"""When and from where definitions run: the `photojobs` command, servers, runners, deployments, reports, metrics."""
