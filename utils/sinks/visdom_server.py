"""visdom's server as a training tool needs it: on loopback, without downloads, started in half a second."""

import asyncio
import importlib.util
import logging
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from utils.errors import ConfigError, DataError
from utils.files import write_atomic
from utils.sinks.visdom_shared import forget_token, keep_token

__all__ = ["fetch_assets", "missing_assets", "serve"]

VERSION = "0.2.4"  # of visdom, for which these lists hold
BARE_PAGE = (
    '<p style="padding:1em;font:16px sans-serif;color:white">This page lacks its scripts and stays empty. Stop the '
    "dashboard, and start it once as <code>python main.py dashboard --assets</code>, which needs npm. Without npm: "
    "<code>curves.png</code> in the run's folder, or <code>python main.py plot RUN</code>.</p>"
)
MATHJAX = "js/mathjax/2.7.5/"
FONT = "fonts/glyphicons-halflings-regular"
# Packages of the npm registry, and where visdom's page looks for their files, below visdom/static. Its own server would
# load the same from four other places of the internet when it starts, and fails without.
PACKAGES: dict[str, dict[str, str]] = {
    "jquery@3.1.1": {"dist/jquery.min.js": "js/jquery.min.js"},
    "bootstrap@3.3.7": {
        "dist/js/bootstrap.min.js": "js/bootstrap.min.js",
        "dist/css/bootstrap.min.css": "css/bootstrap.min.css",
        **{f"dist/{FONT}.{suffix}": f"{FONT}.{suffix}" for suffix in ("eot", "woff2", "woff", "ttf")},
        f"dist/{FONT}.svg": f"{FONT}.svg#glyphicons_halflingsregular",
    },
    "react@16.2.0": {"umd/react.production.min.js": "js/react-react.min.js"},
    "react-dom@16.2.0": {"umd/react-dom.production.min.js": "js/react-dom.min.js"},
    "react-modal@3.1.10": {"dist/react-modal.min.js": "js/react-modal.min.js"},
    "plotly.js-dist-min@2.11.1": {"plotly.min.js": "js/plotly-plotly.min.js"},
    "sjcl@1.0.7": {"sjcl.js": "js/sjcl.js"},
    "layout-bin-packer@1.4.0": {
        "dist/layout-bin-packer.js": "js/layout_bin_packer.js",
        "dist/layout-bin-packer.js.map": "js/layout-bin-packer.js.map",
    },
    "d3@3.5.17": {"d3.min.js": "js/d3.v3.min.js"},
    "d3-selection-multi@1.0.1": {"build/d3-selection-multi.js": "js/d3-selection-multi.v1.js"},
    "save-svg-as-png@1.4.17": {"lib/saveSvgAsPng.js": "js/saveSvgAsPng.js"},
    "react-resizable@1.4.6": {"css/styles.css": "css/react-resizable-styles.css"},
    "react-grid-layout@0.16.3": {"css/styles.css": "css/react-grid-layout-styles.css"},
    "classnames@2.2.5": {"index.js": "fonts/classnames"},
    "mathjax@2.7.5": {
        name: MATHJAX + name
        for name in (
            "MathJax.js",
            "config/Safe.js",
            "config/TeX-AMS-MML_HTMLorMML.js",
            "extensions/Safe.js",
            "jax/output/SVG/config.js",
            "jax/output/SVG/jax.js",
            "jax/output/SVG/fonts/TeX/fontdata.js",
            "jax/output/SVG/fonts/TeX/Size1/Regular/Main.js",
            # Loaded by those when a text holds a formula.
            "extensions/MathMenu.js",
            "extensions/MathZoom.js",
            "extensions/MathEvents.js",
        )
    },
}
# Folders of mathjax that are loaded from as well, file by file.
TREES = (
    "jax/output/SVG/fonts/TeX/",
    "jax/output/SVG/autoload/",
    "jax/element/mml/",
    "jax/output/HTML-CSS/fonts/TeX/",
    "jax/output/HTML-CSS/autoload/",
    "fonts/HTML-CSS/TeX/woff/",
)


def missing_assets() -> list[str]:
    """Return the files of visdom's page that are missing. Raises ConfigError where another visdom is installed."""
    static = _static()
    wanted = (name for files in PACKAGES.values() for name in files.values())
    return [name for name in wanted if not (static / name).exists()]


def fetch_assets() -> int:
    """Put the files of visdom's page in place from the npm registry; how many were written.

    None of their code is run here. Raises ConfigError where they cannot be had, StorageError where they cannot be
    written.
    """
    static = _static()
    npm = shutil.which("npm")
    if npm is None:
        raise ConfigError(f"dashboard: npm is needed once to fetch the page's files; install Node.js, or copy {static}")
    with tempfile.TemporaryDirectory() as folder:
        pack = [npm, "pack", "--silent", "--ignore-scripts", *PACKAGES]
        done = subprocess.run(pack, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [f"code {done.returncode}"])[-1]
            raise ConfigError(f"dashboard: npm could not fetch the page's files ({last}); is the network there?")
        files = [file for package in PACKAGES for file in _unpacked(Path(folder), package)]
    for name, data in files:
        write_atomic(static / name, data)
    write_atomic(static / "version.built", VERSION.encode())  # tells visdom's own server that it need not download
    return len(files)


def _unpacked(folder: Path, package: str) -> Iterator[tuple[str, bytes]]:
    """Name below static, and content, of the files that are wanted of a package."""
    name, version = package.rsplit("@", 1)
    wanted = dict(PACKAGES[package])
    with tarfile.open(folder / f"{name}-{version}.tgz") as archive:
        for member in archive:
            inner = member.name.partition("/")[2]  # of the folder package/
            target = wanted.pop(inner, None)
            if target is None and name == "mathjax" and inner.startswith(TREES):
                target = MATHJAX + inner
            content = archive.extractfile(member) if target and ".." not in member.name else None
            if target and content:
                yield target, content.read()
    if wanted:
        raise DataError(f"dashboard: the package {package} lacks {', '.join(wanted)}")


def _static() -> Path:
    spec = importlib.util.find_spec("visdom")
    if spec is None or spec.origin is None:
        raise ConfigError("dashboard: visdom is not installed; pip install -r requirements.txt installs it")
    folder = Path(spec.origin).parent
    version = (folder / "VERSION").read_text().strip()
    if version != VERSION:
        raise ConfigError(f"dashboard: visdom {version} is installed, {VERSION} is needed")
    return folder / "static"


def serve(port: int, folder: Path, begin: Callable[[], object], token: str = "") -> None:
    """Serve on 127.0.0.1 until interrupted; `folder` holds the environments that were saved.

    `begin` is called once the server can be reached. A `token` keeps out all programs that do not send it. Programs of
    this user find it in a file.

    Raises ConfigError where the port is taken, StorageError where the token cannot be kept.
    """
    application = _application(folder, port, token)

    async def listen() -> None:
        application.listen(port, max_buffer_size=1024**3, address="127.0.0.1")
        with _kept(token, port):
            begin()
            await asyncio.Event().wait()  # for ever

    try:
        asyncio.run(listen())
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"--port={port}: cannot be listened at ({reason}); is a dashboard open already?") from error


@contextmanager
def _kept(token: str, port: int) -> Iterator[None]:
    """Keep a token in its file for as long as it is valid; without one, remove that of a dashboard that was killed."""
    if token:
        keep_token(port, token)
    else:
        forget_token(port)
    try:
        yield
    finally:
        forget_token(port)


def _application(folder: Path, port: int, token: str) -> Any:
    """visdom's tornado application, behind our door."""
    with _without_torch():
        from visdom.server import app
    import tornado.web

    from utils.sinks.visdom_door import Door

    class Guarded(Door, app.Application):
        """visdom's application behind the door."""

    class Files(tornado.web.StaticFileHandler):
        """Gives addresses to the page's files."""

        @classmethod
        def make_static_url(cls, settings: dict, path: str, include_version: bool = True) -> str:
            # The page asks for a file outside of static; newer tornados answer such a page with 403.
            if path.startswith("../"):
                return "/" + path.removeprefix("../")
            return super().make_static_url(settings, path, include_version)

    class Notice(tornado.web.OutputTransform):
        """Puts a line into a page that lacks its scripts, which otherwise stays empty."""

        def transform_first_chunk(
            self, status_code: int, headers: Any, chunk: bytes, finishing: bool
        ) -> tuple[int, Any, bytes]:
            head, body, rest = chunk.partition(b"<body>")
            if body and status_code == 200 and missing_assets():
                chunk = head + body + BARE_PAGE.encode() + rest
                if "Content-Length" in headers:
                    headers["Content-Length"] = str(len(chunk))
            return status_code, headers, chunk

    logging.getLogger("tornado").setLevel(logging.CRITICAL)  # each file that the page asks for would be told of
    app.tornado_settings |= {"static_handler_class": Files, "autoreload": False}
    application = Guarded(port=port, base_url="", env_path=str(folder), token=token)
    application.add_transform(Notice)
    return application


@contextmanager
def _without_torch() -> Iterator[None]:
    """visdom's client half imports torch where it can; a server has no use for it, and starts ten times as fast."""
    loaded = "torch" in sys.modules
    if not loaded:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if not loaded:
            del sys.modules["torch"]
