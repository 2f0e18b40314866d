"""Documentation, and what draws its diagrams."""
