"""From policy files to decisions: `load` reads and checks, `compile` makes a `Snapshot`, which answers."""
