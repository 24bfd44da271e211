"""PTYs, the processes on them, and the streams to them."""
