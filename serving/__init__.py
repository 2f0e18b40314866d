"""A model leaves its run: exported, imported, sent to a hub."""
