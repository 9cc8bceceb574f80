"""Commands that show and change what runs now and next: status, jobs, lanes; hold and release are in `holds`."""
