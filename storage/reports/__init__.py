"""Reports about tasks, jobs, lanes and libraries. They read; only figures of a library are stored with its task."""
