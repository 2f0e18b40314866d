"""A run's predictions: judged, compared, queried, and scored whatever system wrote them."""
