"""Copying a running cluster into the repository, and bringing it back."""
