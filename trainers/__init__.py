"""Training: one trainer loop, one file an objective. Importing `trainers.stylish_trainer` registers with ModelScope."""
