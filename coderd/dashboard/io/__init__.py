"""The shell of the dashboard: requests, templates, files."""
