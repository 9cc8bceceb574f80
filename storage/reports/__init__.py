"""Reports about tasks, jobs, lanes and libraries. They only read, except that figures of a library are stored."""
