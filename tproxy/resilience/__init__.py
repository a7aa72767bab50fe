"""Machines that decide how traffic is limited, spread, retried and broken: time and randomness are arguments."""
