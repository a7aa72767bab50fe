"""Every cell that changes while the proxy runs."""
