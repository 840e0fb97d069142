"""Use cases: one class per resource of the API, and the jobs that carry out what they accept."""
