"""The `photojobs` command, servers, runners, deployments, reports and metrics: when and from where definitions run."""
