"""What stands between a request and its upstream: one feature, one file; `pipelines` puts them in order."""
