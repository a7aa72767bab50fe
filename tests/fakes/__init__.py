"""Small real stand-ins for what the path meets in the world: streams, clocks, peers."""
