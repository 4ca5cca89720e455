"""Notes that a team shares: an ordinary synchronous web app with a login, forms and a database, in the standard library alone.

    python3 examples/django-beside/app.py

It would be the same in Django, Rails or PHP. Pages are rendered, forms are posted, and without JavaScript or without the live
server everything works. What makes it live is in live.py, and marked "live" here.
"""

import hashlib
import hmac
import html
import http.cookies
import json
import os
import re
import secrets
import socketserver
import sqlite3
import sys
import tempfile
import time
import urllib.parse
from http import HTTPStatus
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import live

HERE = Path(__file__).parent
DATABASE = os.environ.get("APP_DATABASE", "")
if not DATABASE:
    # A file that is gone with the process. In memory SQLite does not wait for other threads, and fails.
    scratch = tempfile.TemporaryDirectory(prefix="notes-")
    DATABASE = os.path.join(scratch.name, "notes.db")
COOKIE = "notes_session"
SESSION_DAYS = 14
MAX_FORM = 8 << 10
MAX_QUESTION = 256 << 10  # of the live server: a client's message, and some more
MAX_NOTE = 200

PEOPLE = {"ann": "garden-gate", "ben": "tea-pot", "eve": "loud-owl"}  # name and password, so that there is something to try
MEMBERS = [("garden", "ann"), ("garden", "ben"), ("office", "ann"), ("office", "eve")]


# The database.


def connect_database():
    db = sqlite3.connect(DATABASE, timeout=5)
    db.row_factory = sqlite3.Row
    return db


def create_tables(db):
    db.executescript(
        """
        pragma journal_mode = wal; -- who reads does not wait for who writes
        create table if not exists person (name text primary key, salt blob not null, password blob not null);
        create table if not exists member (room text not null, person text not null, primary key (room, person));
        create table if not exists session (id blob primary key, person text not null, until integer not null);
        create table if not exists note (id integer primary key autoincrement, room text not null, author text not null, text text not null);
        """
    )
    with db:
        for name, password in PEOPLE.items():
            salt = secrets.token_bytes(16)
            db.execute("insert or ignore into person values (?, ?, ?)", (name, salt, hash_password(password, salt)))
        db.executemany("insert or ignore into member values (?, ?)", MEMBERS)


def hash_password(password, salt):
    return hashlib.scrypt(password.encode(), salt=salt, n=1 << 14, r=8, p=1)


def is_member(db, room, person):
    return db.execute("select 1 from member where room = ? and person = ?", (room, person)).fetchone() is not None


# Sessions. The database holds hashes of the cookies: who reads it cannot log in with them.


def session_id(cookie):
    return hashlib.sha256(cookie.encode()).digest()


def begin_session(db, person):
    cookie = secrets.token_urlsafe(32)
    with db:
        db.execute("delete from session where until < ?", (time.time(),))
        db.execute("insert into session values (?, ?, ?)", (session_id(cookie), person, time.time() + SESSION_DAYS * 86400))
    return cookie


# Requests and answers.


class Answer(Exception):
    """Answer is raised by whatever is sure of it."""

    def __init__(self, status, body=b"", kind="text/html; charset=utf-8", headers=()):
        super().__init__(status)
        self.status, self.body, self.headers = HTTPStatus(status), body, list(headers)
        if isinstance(body, str):
            self.body = body.encode()
        self.headers.append(("Content-Type", kind))


def redirect(to, *headers):
    return Answer(303, headers=[("Location", to), *headers])


def in_json(value, status=200):
    return Answer(status, json.dumps(value), "application/json")


class Request:
    def __init__(self, environ, db):
        self.environ, self.db = environ, db
        self.method, self.path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.query = dict(urllib.parse.parse_qsl(environ.get("QUERY_STRING", "")))

    def cookie(self):
        try:
            found = http.cookies.SimpleCookie(self.environ.get("HTTP_COOKIE", "")).get(COOKIE)
        except http.cookies.CookieError:
            found = None
        return found.value if found else ""

    def person(self):
        """person is who is logged in, or None: for pages, and for the live server's questions, which bring the same cookie."""
        row = self.db.execute(
            "select person from session where id = ? and until > ?", (session_id(self.cookie()), time.time())
        ).fetchone()
        return row["person"] if row else None

    def needs_person(self):
        person = self.person()
        if person is None:
            raise redirect("/login")
        return person

    def body(self, limit):
        try:
            length = int(self.environ.get("CONTENT_LENGTH") or 0)
        except ValueError:
            raise Answer(400) from None
        if not 0 <= length <= limit:
            raise Answer(413)
        return self.environ["wsgi.input"].read(length)

    def form(self):
        """form refuses what other sites make a browser send. Another port is another site here."""
        own = f"{self.environ['wsgi.url_scheme']}://{self.environ.get('HTTP_HOST', '')}"
        site, origin = self.environ.get("HTTP_SEC_FETCH_SITE"), self.environ.get("HTTP_ORIGIN")
        if site not in (None, "same-origin", "none") or site is None and origin not in (None, own):
            raise Answer(403, "This form is of another site.")
        try:
            fields = urllib.parse.parse_qsl(self.body(MAX_FORM).decode(), max_num_fields=10)
        except ValueError:  # also what is not UTF-8
            raise Answer(400) from None
        return dict(fields)


# Pages.


def page(title, body, head="", data=""):
    return Answer(
        200,
        f"""<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <title>{html.escape(title)}</title>
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="color-scheme" content="light dark">
  <link rel="icon" href="data:,">
  <link rel="stylesheet" href="/static/notes.css">{head}
</head>
<body{data}>
{body}
</body>
</html>
""",
    )


def note_html(note):
    """note_html renders a note for the page, and, published as it is, for those who have the page open."""
    return f'<li data-id="{note["id"]}"><b>{html.escape(note["author"])}</b> {html.escape(note["text"])}</li>'


def notes_html(db, room):
    notes = db.execute("select * from (select * from note where room = ? order by id desc limit 50) order by id", (room,))
    return "\n".join(map(note_html, notes))


def show_login(request):
    wrong = '<p role="alert">That is not the password.</p>' if "wrong" in request.query else ""
    return page(
        "Log in",
        f"""<main><h1>Notes</h1>{wrong}
<form class="login" method="post" action="/login">
  <label>Name <input name="name" required autofocus autocomplete="username" autocapitalize="none"></label>
  <label>Password <input name="password" type="password" required autocomplete="current-password"></label>
  <button>Log in</button>
</form></main>""",
    )


def log_in(request):
    form = request.form()
    person = request.db.execute("select * from person where name = ?", (form.get("name", ""),)).fetchone()
    salt, password = (person["salt"], person["password"]) if person else (b"no such person", b"")
    if not hmac.compare_digest(hash_password(form.get("password", ""), salt), password):
        return redirect("/login?wrong=1")
    # A new one: a cookie from before the login may be known to others.
    cookie = begin_session(request.db, person["name"])
    return redirect("/", ("Set-Cookie", f"{COOKIE}={cookie}; Path=/; HttpOnly; SameSite=Lax; Max-Age={SESSION_DAYS * 86400}"))


def log_out(request):
    request.form()
    person = request.person()
    with request.db:
        request.db.execute("delete from session where id = ?", (session_id(request.cookie()),))
    if person is not None:
        live.disconnect(person)  # live: the session is over already, so who comes back is refused
    return redirect("/login", ("Set-Cookie", f"{COOKIE}=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0"))


def show_rooms(request):
    person = request.needs_person()
    rows = request.db.execute("select room from member where person = ? order by room", (person,)).fetchall()
    if not rows:
        raise Answer(403, "You are in no team.")
    return redirect(f"/rooms/{rows[0]['room']}")


def show_room(request, room):
    person = request.needs_person()
    if not is_member(request.db, room, person):
        raise Answer(404, "There is no such room for you.")
    if "part" in request.query:  # live: the list alone, for a page that may have missed something
        return Answer(200, notes_html(request.db, room))
    rooms = request.db.execute("select room from member where person = ? order by room", (person,))
    current = ' aria-current="page"'
    links = "".join(f'<a href="/rooms/{r["room"]}"{current if r["room"] == room else ""}>{r["room"].title()}</a>' for r in rooms)
    return page(
        f"{room.title()}: notes",
        f"""<header><h1>{room.title()}</h1><nav aria-label="Rooms">{links}</nav>
<form method="post" action="/logout"><button>Log out {html.escape(person)}</button></form></header>
<main>
<ol id="notes" aria-live="polite">{notes_html(request.db, room)}</ol>
<form class="new" method="post" action="/rooms/{room}" autocomplete="off">
  <label>Note <input name="text" required autofocus maxlength="{MAX_NOTE}"></label> <button>Save</button>
</form>
<noscript><p>Without JavaScript new notes show when you reload the page.</p></noscript>
</main>""",
        '\n  <script src="/static/live.js" defer></script>',  # live
        f' data-stream="{html.escape(live.stream(channel(room)))}"',  # live
    )


def save_note(request, room):
    person = request.needs_person()
    form = request.form()
    if not is_member(request.db, room, person):
        raise Answer(404, "There is no such room for you.")
    text = form.get("text", "").strip()[:MAX_NOTE]
    if text:
        with request.db:
            note_id = request.db.execute("insert into note (room, author, text) values (?, ?, ?)", (room, person, text)).lastrowid
        # live: when it is saved, so that nobody sees what is not
        live.publish(channel(room), {"id": note_id, "html": note_html({"id": note_id, "author": person, "text": text})})
    return redirect(f"/rooms/{room}")


def show_static(request, name):
    kinds = {"live.js": "text/javascript; charset=utf-8", "notes.css": "text/css; charset=utf-8"}
    if name not in kinds:
        raise Answer(404)
    return Answer(200, (HERE / "static" / name).read_bytes(), kinds[name])


# live: what the live server asks. It brings the browser's cookie, so the login of the pages is the login of the connection.

RECHECK = 60  # seconds after which it asks whether a session is still good


def channel(room):
    return f"room:{room}"


def question(request):
    if not live.is_live_server(request.environ):
        raise Answer(403)
    try:
        asked = json.loads(request.body(MAX_QUESTION))
    except ValueError:
        raise Answer(400) from None
    person = request.person()
    if person is None:
        raise in_json({}, 401)  # not a redirect to a page
    return asked, person


def may_connect(request):
    _, person = question(request)
    return in_json({"result": {"user": person, "info": {"name": person}, "expire_at": int(time.time()) + RECHECK}})


def may_stay(request):
    question(request)
    return in_json({"result": {"expire_at": int(time.time()) + RECHECK}})


def may_subscribe(request):
    asked, person = question(request)
    kind, _, room = str(asked.get("channel")).partition(":")
    if kind != "room" or not is_member(request.db, room, person):
        raise in_json({}, 403)
    return in_json({"result": {}})


# The app.

ROUTES = [
    ("GET", "/", show_rooms),
    ("GET", "/login", show_login),
    ("POST", "/login", log_in),
    ("POST", "/logout", log_out),
    ("GET", r"/rooms/([a-z]+)", show_room),
    ("POST", r"/rooms/([a-z]+)", save_note),
    ("GET", r"/static/([a-z.]+)", show_static),
    ("POST", "/live/connect", may_connect),
    ("POST", "/live/refresh", may_stay),
    ("POST", "/live/subscribe", may_subscribe),
]


def answer(environ):
    db = connect_database()
    try:
        request = Request(environ, db)
        for method, pattern, view in ROUTES:
            match = re.fullmatch(pattern, request.path)
            if match and method == request.method:
                return view(request, *match.groups())
        return Answer(404, "There is nothing here.")
    except Answer as a:
        return a
    finally:
        db.close()


def app(environ, start_response):
    a = answer(environ)
    start_response(
        f"{a.status.value} {a.status.phrase}",
        [
            *a.headers,
            ("Content-Length", str(len(a.body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            (
                "Content-Security-Policy",
                f"default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self' {live.URL}; "
                "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
            ),
        ],
    )
    return [a.body]


class Server(socketserver.ThreadingMixIn, WSGIServer):
    """Server has a thread for each request, as gunicorn's threads or Apache's would be."""

    daemon_threads = True
    request_queue_size = 64


class Handler(WSGIRequestHandler):
    timeout = 20  # for a client to send its request

    def log_message(self, *_):
        """Requests are not logged: who was where is nobody's business."""


def main():
    host, _, port = os.environ.get("APP_ADDR", "127.0.0.1:8000").rpartition(":")
    db = connect_database()
    create_tables(db)
    db.close()
    with Server((host, int(port)), Handler) as server:
        server.set_app(app)
        print(f"notes are at http://{host}:{server.server_port}", file=sys.stderr, flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
