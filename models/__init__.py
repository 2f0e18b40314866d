"""Vision-language models, one package an architecture."""
