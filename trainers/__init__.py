"""Training: one trainer loop, one file an objective. Importing `tasks.captioning.trainer` registers with ModelScope."""
