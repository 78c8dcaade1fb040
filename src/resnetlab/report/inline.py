"""What pages have in themselves: pictures as data URLs, and the policy that lets them load nothing else."""

import base64
import hashlib


def data_url(kind: str, content: bytes) -> str:
    """A file of a media type, such as image/png, as a URL that holds it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def policy(script: str, style: str, *more: str) -> str:
    """The Content-Security-Policy of a page: only this script, this style, and what `more` allows."""
    allowed = (f"script-src '{_source(script)}'", f"style-src '{_source(style)}'")
    return "; ".join(("default-src 'none'", *more, *allowed, "base-uri 'none'", "form-action 'none'"))


def _source(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
