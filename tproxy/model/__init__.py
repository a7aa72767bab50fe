"""The words every other floor speaks: addresses, flows, heads, outcomes and bounds; standard library only."""
