"""The benchmark: what this system does a second, and how long it takes, beside what would be used instead of it."""
