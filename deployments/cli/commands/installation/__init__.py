"""Commands for the installation: init, doctor, demo, library, db, completion, and the services up, serve and worker."""
