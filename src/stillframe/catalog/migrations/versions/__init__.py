"""One module a revision, named `r<number>_<what it brings>`; a released one is never changed."""
