"""MkDocs hooks: the Markdown files of the repository's root as pages, and links that work on GitHub and in the site."""

import os
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
}
LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<path>[^)#:\s]+)(?P<anchor>#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages of the root."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrites relative links: those within the site to the site's pages, those to other files to their text."""
    if page.parent is None:  # a section of one page needs no list of its pages
        page.meta["hide"] = ["navigation"]
    own = page.file.src_uri
    source = next((name for name, target in PAGES.items() if target == own), f"docs/{own}")

    def rewritten(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link["path"]))
        target = PAGES.get(path, path.removeprefix("docs/") if path.startswith("docs/") else None)
        if target is None:
            return link["text"]
        return f"[{link['text']}]({os.path.relpath(target, posixpath.dirname(own) or '.')}{link['anchor'] or ''})"

    return LINK.sub(rewritten, markdown)
