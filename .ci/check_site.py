"""Check a built documentation site: its pages load nothing from another host, and its search works from a disk.

`python .ci/check_site.py FOLDER`, after `mkdocs build --site-dir FOLDER`. Needs Chromium with its driver, which gets no
network.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

#: Elements of a page and rules of a style sheet for which a browser loads something from another host.
LOADED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed)\b[^>]*\b(?:src|srcset)=["']?(?:https?:)?//[^"' >]+"""
    r"""|<link\b(?=[^>]*\brel=["']?(?:stylesheet|preload|prefetch|preconnect|modulepreload|icon|manifest))[^>]*"""
    r"""\bhref=["']?(?:https?:)?//[^"' >]+"""
    r"""|@import\s+(?:url\()?["']?(?:https?:)?//[^"')]+|url\(["']?(?:https?:)?//[^"')]+""",
    re.IGNORECASE,
)
#: A word, and the page that the search must find for it.
WORD, PAGE = "companions", "reference/companions.html"


def loaded_from_elsewhere(site: Path) -> list[str]:
    """Every reference to another host, after the name of its file."""
    files = (file for file in site.rglob("*") if file.suffix in (".html", ".css"))
    return [
        f"{file.relative_to(site)}: {found.group()}"
        for file in sorted(files)
        for found in LOADED.finditer(file.read_text(encoding="utf-8"))
    ]


def found_by_search(site: Path) -> list[str]:
    """The addresses that the search of the site, opened as files without a network, finds for `WORD`."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND")
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver") or ""))
    try:
        driver.get(f"{(site / 'index.html').resolve().as_uri()}?q={WORD}")
        selector = ".md-search-result__item a"
        WebDriverWait(driver, 120).until(lambda page: page.find_elements(By.CSS_SELECTOR, selector))
        links = driver.find_elements(By.CSS_SELECTOR, selector)
        return [str(link.get_attribute("href")) for link in links]
    finally:
        driver.quit()


def main(site: Path) -> None:
    """Check the site, and end with what is wrong."""
    if elsewhere := loaded_from_elsewhere(site):
        sys.exit("Pages of the site load from other hosts:\n" + "\n".join(elsewhere))
    found = found_by_search(site)
    if not any(PAGE in address for address in found):
        sys.exit(f"The search of the site does not find {PAGE} by {WORD!r}; it found {found}")
    print(f"{site}: nothing is loaded from another host, and the search works without a network")  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]))
