"""What the app says to the live server, and how it knows that it is the live server who asks."""

import hmac
import json
import os
import sys
import urllib.parse
import urllib.request

URL = os.environ.get("LIVE_URL", "http://127.0.0.1:8001")  # as browsers see it
API = os.environ.get("LIVE_API", URL + "/api")  # as this app sees it
# Both are in fanfare.json, too. Make your own before anybody else can reach the two.
API_KEY = os.environ.get("LIVE_API_KEY", "example-api-key-of-the-notes")
SECRET = os.environ.get("LIVE_SECRET", "example-secret-of-the-webhooks")
TIMEOUT = 2  # seconds


def stream(channel):
    """stream is where a page listens to a channel."""
    return f"{URL}/connection/events?{urllib.parse.urlencode({'channel': channel})}"


def is_live_server(environ):
    """The views that it asks have no protection against forged requests but this."""
    return hmac.compare_digest(environ.get("HTTP_X_LIVE_SECRET", "").encode(), SECRET.encode())


def publish(channel, data):
    return call("publish", {"channel": channel, "data": data})


def disconnect(user):
    """disconnect ends the user's connections, with a code after which they come back if they have a session still."""
    return call("disconnect", {"user": user, "disconnect": {"code": 4000, "reason": "logged out"}})


def call(method, params):
    """call reports whether it went well. What the app has saved is saved in any case, and pages that are loaded show it."""
    request = urllib.request.Request(
        f"{API}/{method}",
        json.dumps(params).encode(),
        {"Content-Type": "application/json", "X-API-Key": API_KEY},
    )
    try:
        # Not through a proxy that the environment names: the key is none of its business.
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=TIMEOUT) as answer:
            error = json.load(answer).get("error")
    except (OSError, ValueError) as e:
        error = e
    if error:
        print(f"live: {method} failed: {error}", file=sys.stderr, flush=True)
    return not error
