"""The shell of a browser's sessions: requests and answers."""
