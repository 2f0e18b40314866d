"""Ready configurations (JSON), and the reader of typed settings that `config.py` is built on."""
