"""A service-mesh sidecar without eBPF."""
