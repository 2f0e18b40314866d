"""The model in an exported folder, served to everybody: what the `app.py` of `export --app` calls."""

from pathlib import Path

from serving.serve import run_server

#: Pages of hubs that show an app within their own.
HUB_PAGES = (
    "https://huggingface.co",
    "https://modelscope.cn",
    "https://www.modelscope.cn",
    "https://modelscope.ai",
    "https://www.modelscope.ai",
)


def run_app(folder: Path, name: str, *, host: str, port: int) -> None:
    """Serves the model in `folder` under that name until it is interrupted; hubs may show the page within theirs."""
    run_server(
        [str(folder)],
        names=[name],
        host=host,
        port=port,
        key_file=None,
        device="auto",
        size=32,
        limit=256,
        seconds=60,
        within=HUB_PAGES,
    )
