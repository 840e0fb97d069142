"""The vocabulary: identifiers, states and records. No I/O, no driver, no clock of its own."""
