"""Stylish image captioning: an image and a personality in, that person's caption out."""
