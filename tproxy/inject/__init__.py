"""Manifests to manifests: add the init step and the sidecar to whatever runs pods, and take them out again."""
