"""The far side: which connection carries a request to whom, and what comes back."""
