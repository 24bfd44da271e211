"""The shell: sockets, devices and clocks around the pure core."""
