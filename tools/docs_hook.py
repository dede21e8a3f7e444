"""What `mkdocs.yml` asks of Python: pages beside `docs/`, links that lead out of it, transformers' docstrings."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = {"README.md": "index.md", "CHANGELOG.md": "CHANGELOG.md", "CONTRIBUTING.md": "CONTRIBUTING.md"}
LINK = re.compile(r"\[([^\[\]]*)\]\((?!\w+:|#)([^)\s#]+)(#[^)\s]*)?\)")
NAMED = re.compile(r"\[<code>([\w.]+)</code>\]")  # [`JointDetrModel`]
TYPE = re.compile(r"<code>[^<]*`[^<]*</code>")  # `torch.Tensor` of shape `(batch, joints, 3)`, *optional*


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie beside `docs/`."""
    for source, name in PAGES.items():
        files.append(File.generated(config, name, content=(REPOSITORY / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links, which are relative to the file as it lies in the repository, into those of the site.

    Raises:
        PluginError: A link leads nowhere.
    """
    folder = "" if page.file.src_uri in PAGES.values() else "docs"

    def link(match: re.Match[str]) -> str:
        text, target, anchor = match[1], posixpath.normpath(posixpath.join(folder, match[2])), match[3] or ""
        if not (REPOSITORY / target).exists():
            raise PluginError(f"{page.file.src_uri} links to {match[2]}, which does not exist")
        in_site = PAGES.get(target, target.removeprefix("docs/"))
        if files.get_file_from_path(in_site):
            return f"[{text}]({in_site}{anchor})"
        return f"[{text}]({config.repo_url}/blob/HEAD/{target}{anchor})" if config.repo_url else text

    return LINK.sub(link, markdown)


def on_page_content(html: str, **kwargs: Any) -> str:
    """Link classes that docstrings name to what is said of them, if anything is; types lose their backticks."""
    html = TYPE.sub(lambda match: match[0].replace("`", "").replace("*", ""), html)
    return NAMED.sub(r'<autoref identifier="jointdetr.\1" optional><code>\1</code></autoref>', html)
