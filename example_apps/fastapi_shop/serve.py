"""Start the shop with a mail server that prints what it is given, and tell what to try. Ctrl-C ends both."""

from __future__ import annotations

import os
import sys
import tempfile
from email.message import Message
from pathlib import Path

import uvicorn
from post_office import open_post_office

HERE = Path(__file__).parent
TRY = """
Try, in another terminal:
  curl -s -X POST localhost:8000/orders -H 'x-api-key: key-of-ann' -H 'content-type: application/json' \\
       -d '{"email": "ann@example.com", "items": [{"name": "tea", "quantity": 2, "cents": 450}]}'
  curl -s localhost:8000/orders/1/invoice -H 'x-api-key: key-of-ann' -i
  curl -s localhost:8000/reports/2026
Six times within a minute is too often for ann, whose plan is free. http://localhost:8000/docs has the rest.
"""


def show(mail: Message) -> None:
    """Print a mail."""
    print(f"--- a mail to {mail['To']}: {mail['Subject']}\n{mail.get_payload()}---", flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, open_post_office(show) as office:
        os.environ["SHOP_DB"] = f"{folder}/shop.db"
        os.environ["SMTP"] = office.address
        os.environ.setdefault("REDIS_URL", f"embedded://{folder}/data")
        print(TRY, flush=True)
        sys.path.insert(0, str(HERE))
        uvicorn.run("app:app", port=int(os.environ.get("PORT", "8000")))
