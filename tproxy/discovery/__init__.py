"""Where endpoints come from that no file names."""
