"""One package a task: what goes together of data, networks, objectives, scores and pages."""
