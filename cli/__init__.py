"""The one command, `millrace`; the only place that may know every service."""
