"""Add to the docs site the pages that live outside docs/, and lead their links to where they are.

Nothing is written twice: README.md is the quick start, and the changelog, CONTRIBUTING.md,
SECURITY.md and the programs of examples/ are pages, too. The sources keep the links that work in a
checkout. The one script that the theme would fetch from elsewhere is replaced by ours.

A hook of MkDocs: https://www.mkdocs.org/user-guide/configuration/#hooks
"""

import re
from pathlib import Path
from posixpath import normpath, relpath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
EXAMPLES = "examples.md"
LANGUAGES = {".py": "python", ".js": "javascript", ".json": "json"}
FETCHED = "https://unpkg.com/iframe-worker/shim"
WORKER = "assets/frame-worker.js"
LINK = re.compile(r"\[([^\[\]]*)\]\((?!https?:|mailto:|#)([^)\s]+)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are not in docs/."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text()
        files.append(File.generated(config, page, content=_led(text, source, page)))
    files.append(File.generated(config, EXAMPLES, content=_examples()))
    script = Path(__file__).with_name(Path(WORKER).name).read_text()
    files.append(File.generated(config, WORKER, content=script))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return the text of a page of docs/ with its links led to the pages of the site."""
    name = page.file.src_uri
    return markdown if name in {*PAGES.values(), EXAMPLES} else _led(markdown, f"docs/{name}", name)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Return the finished page without the script that would be fetched from elsewhere."""
    return output.replace(FETCHED, relpath(WORKER, Path(page.file.dest_uri).parent))


def on_post_template(output: str, **_: Any) -> str:
    """Return a page without a source, as 404.html is, without that script, too."""
    return output.replace(FETCHED, f"/{WORKER}")


def _led(text: str, source: str, page: str) -> str:
    """Return *text* of the file *source* with links as the page *page* has to have them.

    What is linked and is on no page of the site stays as words, which name its place.
    """

    def link(found: re.Match[str]) -> str:
        path, mark, anchor = found[2].partition("#")
        target = _page_of(normpath(str(Path(source).parent / path)))
        if target is None:
            return found[1]
        return f"[{found[1]}]({relpath(target, Path(page).parent)}{mark}{anchor})"

    return LINK.sub(link, text)


def _page_of(path: str) -> str | None:
    """Return the file of the site that has the file *path* of the repository, if there is one."""
    folder, _, rest = path.partition("/")
    if folder == "docs":
        return rest
    return EXAMPLES if folder == "examples" else PAGES.get(path)


def _examples() -> str:
    parts = ["# Examples", "Whole programs. [Clients](clients.md) says what they set and why."]
    for folder in ("python", "javascript"):
        for file in sorted((ROOT / "examples" / folder).iterdir()):
            if file.is_file() and (language := LANGUAGES.get(file.suffix)):
                parts += [
                    f"## {folder}/{file.name}",
                    f"```{language}\n{file.read_text().rstrip()}\n```",
                ]
    return "\n\n".join(parts) + "\n"
