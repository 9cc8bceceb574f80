"""Creates and finds the embedded server's random password, in a file that only its owner can read.

For a server that photojobs did not start, the user sets `PREFECT_API_AUTH_STRING`.
"""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
from pathlib import Path

from storage.database.private_files import open_private

#: The file in the server's folder that contains the password in Prefect's form, `user:password`.
AUTH_FILE = "auth_string"
#: The file in the server's folder that contains the URL of its API; it stays after the server ends.
ADDRESS_FILE = "address"

#: The path of the page that stores the password in a browser; see `deployments.embedded_server.login`.
LOGIN_PATH = "/photojobs-login"

_USER = "photojobs"


def auth_string_of(home: Path) -> str:
    """Return the password of the server in `home`; create it if it is missing.

    The variable `PREFECT_SERVER_API_AUTH_STRING` takes precedence; its value is not stored.
    """
    given = os.environ.get("PREFECT_SERVER_API_AUTH_STRING")
    if given:
        return given
    file = home / AUTH_FILE
    known = _read(file)
    if known:
        return known
    made = f"{_USER}:{secrets.token_urlsafe(24)}"
    # Another process may create the file at the same time. `os.link` fails if the file exists, so the password of the
    # first process stays. Some file systems, such as those of memory cards, have no hard links.
    temporary = home / f".{AUTH_FILE}.{os.getpid()}"
    _write_private(temporary, made)
    try:
        os.link(temporary, file)
    except FileExistsError:
        made = _read(file) or made
    except OSError:
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
    return made


def login_link(site_url: str, auth_string: str) -> str:
    """Return the link that opens the pages of the server at `site_url` without a prompt for the password."""
    return f"{site_url}{LOGIN_PATH}#{base64.b64encode(auth_string.encode()).decode()}"


def note_address(home: Path, url: str) -> None:
    """Store the API's URL beside the password in `home`, so that commands know to which server the password belongs."""
    _write_private(home / ADDRESS_FILE, url)


def use_password_of(home: Path) -> None:
    """Let Prefect use the password in `home` if `PREFECT_API_URL` names the server of that folder.

    Call this before Prefect reads its settings. A password or key in the environment is not changed.
    """
    url = os.environ.get("PREFECT_API_URL", "").rstrip("/")
    if not url or os.environ.get("PREFECT_API_AUTH_STRING") or os.environ.get("PREFECT_API_KEY"):
        return
    if url.replace("//localhost:", "//127.0.0.1:") == _read(home / ADDRESS_FILE):
        password = _read(home / AUTH_FILE)
        if password:
            os.environ["PREFECT_API_AUTH_STRING"] = password


def known_password(home: Path) -> str | None:
    """Return the password of the server in `home`; None if it has none yet."""
    return _read(home / AUTH_FILE) or None


def _read(file: Path) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return file.read_text(encoding="utf-8").strip()
    return ""


def _write_private(file: Path, text: str) -> None:
    file.unlink(missing_ok=True)
    with open_private(file, "xb") as opened:
        opened.write(f"{text}\n".encode())
