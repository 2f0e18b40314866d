"""Rewards of self-critical training, and what they need of the training corpus."""
