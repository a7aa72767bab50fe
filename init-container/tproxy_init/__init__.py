"""Program the kernel so that a pod's traffic passes its sidecar."""
