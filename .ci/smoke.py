"""Runs the built program against stand-ins on loopback: CertCentral, a Slack webhook and a mail server.

No account, no key and no network are needed. Called by the script `smoke` beside this file: smoke.py BINARY.
"""

import email
import email.policy
import http.server
import json
import os
import signal
import socketserver
import subprocess
import sys
import tempfile
import threading
import time

BINARY = os.path.abspath(sys.argv[1])
API_KEY = "smoke-api-key-0123456789abcdef"
SLACK_PATH = "/services/T0SMOKE/B0SMOKE/abcdefghijklmnopqrstuvwx"
FUNDS = "USD 1,431.00"
DEADLINE = 20  # seconds, for each thing that is waited for

lock = threading.Lock()
reads, posts, mails, oddities = [], [], [], []
passed = failed = 0


def check(what, good, detail=""):
    global passed, failed
    passed, failed = (passed + 1, failed) if good else (passed, failed + 1)
    print(("ok      " if good else "FAILED  ") + what + (f": {detail}" if detail and not good else ""), flush=True)
    return good


def until(condition):
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


class Web(http.server.BaseHTTPRequestHandler):
    """CertCentral and Slack."""

    protocol_version = "HTTP/1.1"

    def answer(self, status, body, media_type):
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def history(self, path):
        """Sixty purchases, one a day; no orders."""
        purchases = []
        if path.endswith("balance-history"):
            stamp = lambda ago: time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(time.time() - ago * 86400))
            purchases = [
                {"id": f"L{ago}", "debit": "40.00", "transaction_type": "Charge", "transaction_date": stamp(ago)}
                for ago in range(1, 61)
            ]
        items = "adjustments" if path.endswith("balance-history") else "orders"
        page = {"total": len(purchases), "limit": 1000, "offset": 0}
        self.answer(200, json.dumps({items: purchases, "page": page}), "application/json")

    def do_GET(self):
        path = self.path.split("?")[0]
        known = self.headers.get("X-DC-DEVKEY") == API_KEY
        if known and path in ("/services/v2/finance/balance-history", "/services/v2/order/certificate"):
            self.history(path)
            return
        if not known or self.path != "/services/v2/finance/balance":
            with lock:
                oddities.append(f"GET {self.path}")
            self.answer(404, '{"errors":[{"code":"not_found|route","message":"no such route"}]}', "application/json")
            return
        with lock:
            reads.append(time.monotonic())
        balance = {
            "balance": "-569.00",
            "currency": "USD",
            "unpaid_invoice_balance": "0.00",
            "negative_balance_limit": "2000.00",
            "used_credit_from_other_containers": "0.00",
            "total_available_funds": "1431.00",
        }
        self.answer(200, json.dumps(balance), "application/json")

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with lock:
            (posts if self.path == SLACK_PATH else oddities).append(body.decode())
        self.answer(200, "ok", "text/plain")

    def log_message(self, *_):
        pass


class Mail(socketserver.StreamRequestHandler):
    """A mail server that takes everything."""

    timeout = 60

    def say(self, line):
        self.wfile.write(line.encode() + b"\r\n")

    def handle(self):
        self.say("220 localhost ESMTP")
        recipients = []
        for line in iter(self.rfile.readline, b""):
            verb = line.decode("utf-8", "replace").strip()
            word = verb[:4].upper()
            if word == "EHLO":
                self.say("250-localhost")
                self.say("250 8BITMIME")
            elif word == "MAIL":
                recipients = []
                self.say("250 ok")
            elif word == "RCPT":
                recipients.append(verb)
                self.say("250 ok")
            elif word == "DATA":
                self.say("354 go on")
                data = b""
                for part in iter(self.rfile.readline, b".\r\n"):
                    if not part:
                        return
                    data += part[1:] if part.startswith(b".") else part
                with lock:
                    mails.append((recipients, data))
                self.say("250 taken")
            elif word == "QUIT":
                self.say("221 bye")
                return
            elif word in ("HELO", "RSET", "NOOP"):
                self.say("250 ok")
            else:
                self.say("502 not known here")


class MailServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


def strings(value):
    """Every string in a JSON value."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    return [text for item in value for text in strings(item)] if hasattr(value, "__iter__") else []


def serve(server):
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def count():
    with lock:
        return len(posts), len(mails)


def main(folder):
    web = serve(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web))
    smtp = serve(MailServer(("127.0.0.1", 0), Mail))
    config = os.path.join(folder, "alerts.yaml")
    with open(config, "w", encoding="utf-8") as file:
        file.write(f"""\
schedule: every 1s
state: state.json
accounts:
  acme:
    api_key: ${{SMOKE_API_KEY}}
    base_url: http://127.0.0.1:{web}/services/v2
    rate_limit: off
notifiers:
  slack:
    type: slack
    webhook_url: ${{SMOKE_WEBHOOK_URL}}
  mail:
    type: email
    host: 127.0.0.1
    port: {smtp}
    tls: none
    from: "Lowtide <lowtide@example.com>"
    to: [finance@example.com]
rules:
  available-funds:
    metric: available_funds
    warning: {{ below: 2000 }}
    description: Ask Finance for a purchase order.
""")
    unwanted = ("LOWTIDE_", "RUST_LOG", "STATE_DIRECTORY")
    env = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    env |= {"SMOKE_API_KEY": API_KEY, "SMOKE_WEBHOOK_URL": f"http://127.0.0.1:{web}{SLACK_PATH}", "LOWTIDE_CONFIG": config}
    said = []

    def run(*args):
        done = subprocess.run([BINARY, *args], env=env, capture_output=True, text=True, timeout=60)
        said.append(done.stdout + done.stderr)
        return done

    done = run("validate", "--online")
    check("validate --online exits 0", done.returncode == 0, f"{done.returncode}: {said[-1]}")
    done = run("check", "-o", "plugin")
    check("check exits 1, which is a warning", done.returncode == 1, f"{done.returncode}: {said[-1]}")
    check("check says what is left", FUNDS in done.stdout, said[-1])
    check("check and validate sent nothing", count() == (0, 0), count())

    log_path = os.path.join(folder, "log")
    with open(log_path, "wb") as log:
        service = subprocess.Popen([BINARY, "run", "--log-level", "debug"], env=env, stdout=log, stderr=log)
    try:
        arrived = until(lambda: min(count()) >= 1 or service.poll() is not None)
        check("a Slack message and a mail arrived", arrived and min(count()) >= 1, count())
        with lock:
            slack = " ".join(text for post in posts[:1] for text in strings(json.loads(post)))
            to, data = mails[0] if mails else ([], b"")
        check("the Slack message says what is left", FUNDS in slack, slack)
        check("the Slack message says how long it lasts", "Funds last until about" in slack, slack)
        message = email.message_from_bytes(data, policy=email.policy.default)
        body = message.get_body(("plain",))
        body = body.get_content() if body else ""
        check("the mail says what is left", FUNDS in body, body)
        check("the mail goes to its recipient", [line.upper().count("FINANCE@EXAMPLE.COM") for line in to] == [1], to)
        check("the mail is marked as automatic", message["Auto-Submitted"] == "auto-generated", message["Auto-Submitted"])

        before = len(reads)
        check("three more cycles ran", until(lambda: len(reads) >= before + 3), len(reads) - before)
        check("nothing was repeated", count() == (1, 1), count())

        done = run("status")
        shown = all(text in done.stdout for text in ("lowtide is running", "available-funds", "firing", FUNDS))
        check("status shows the alert and the reading", done.returncode == 0 and shown, said[-1])
        done = run("health")
        check("health exits 0", done.returncode == 0, said[-1])

        service.send_signal(signal.SIGTERM)
        try:
            code = service.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            code = "still running"
        check("SIGTERM ends it with exit code 0", code == 0, code)
    finally:
        if service.poll() is None:
            service.kill()
            service.wait()
    done = run("health")
    check("health exits 1 once it is stopped", done.returncode == 1, said[-1])
    done = run("status")
    check("status still knows the alert", done.returncode == 0 and "firing" in done.stdout, said[-1])
    check("nobody asked for anything else", not oddities, oddities)
    with open(log_path, encoding="utf-8", errors="replace") as file:
        log = file.read()
    with open(os.path.join(folder, "state.json"), encoding="utf-8") as file:
        everything = "".join(said) + log + file.read()
    check("no secret was shown or stored", API_KEY not in everything and SLACK_PATH not in everything)
    if failed:
        print(f"--- log of the service\n{log}---")


with tempfile.TemporaryDirectory() as folder:
    try:
        main(folder)
    except Exception as error:  # a summary whatever happens
        check("the smoke test itself", False, repr(error))
print(f"{passed} passed, {failed} failed")
sys.exit(1 if failed else 0)
