"""Routes and streams of terminals by browser."""
