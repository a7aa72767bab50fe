"""What is wrong with a machine or a pod that should carry, and how to mend it."""
