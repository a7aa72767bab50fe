"""What a connection speaks, judged by its first bytes alone: no socket, no clock."""
