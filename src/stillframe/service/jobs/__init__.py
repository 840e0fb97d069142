"""The work that requests cause: one handler for each kind of operation, and the runner that carries them out."""
