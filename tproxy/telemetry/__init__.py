"""What operators see of the traffic: log records, metrics and trace context; values only, nothing is written here."""
