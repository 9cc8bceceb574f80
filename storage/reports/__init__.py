"""What can be read about tasks, jobs, lanes and libraries. It changes nothing that work depends on."""
