"""Real mail servers: what lowtide sends through Postfix and Exim, and what arrives in the mailboxes.

Every case is a listener of one server with settings of its own, and a notifier of one configuration. One service tells all of
them of one alert, and each recipient must have got it exactly once. Called by the script `mail` beside this file, as root:
mail.py BINARY FOLDER, where FOLDER/servers has the unpacked packages.
"""

import email
import email.policy
import email.utils
import glob
import json
import os
import pwd
import re
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time

BINARY, FOLDER = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
SERVERS = os.path.join(FOLDER, "servers")
BOXES = os.path.join(FOLDER, "boxes")
DEADLINE = 90  # seconds, for each thing that is waited for
USER, PASSWORD = "lowtide", "correct-horse-battery"
GREYLISTED = 2  # seconds
SLOW = 0.4  # seconds that a slow listener takes for each recipient: for MANY, more than six times the notifier's timeout of 1 s
SMALL = 15_000  # bytes: a mail without its picture is smaller, one with it is larger
FEW, MANY = 10, 30  # recipients that a listener takes at once, and that it is sent

passed = failed = 0


def check(what, good, detail=""):
    global passed, failed
    passed, failed = (passed + 1, failed) if good else (passed, failed + 1)
    print(("ok      " if good else "FAILED  ") + what + (f": {detail}" if detail and not good else ""), flush=True)
    return good


def until(condition, seconds=DEADLINE):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return condition()


def path(*parts):
    return os.path.join(FOLDER, *parts)


def write(name, text, mode=0o644):
    os.makedirs(os.path.dirname(path(name)), exist_ok=True)
    with open(path(name), "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path(name), mode)
    return path(name)


def read(name):
    with open(path(name), encoding="utf-8", errors="replace") as file:
        return file.read()


def folder(name, owner):
    os.makedirs(path(name), exist_ok=True)
    user = pwd.getpwnam(owner)
    os.chown(path(name), user.pw_uid, user.pw_gid)
    return path(name)


_taken = []


def port():
    """A free port. It stays bound until all are known, so that no two are the same."""
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    _taken.append(taken)
    return taken.getsockname()[1]


def listens(number):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", number)) == 0


def run(*command, **options):
    done = subprocess.run(command, text=True, capture_output=True, **options)
    if done.returncode:
        sys.exit(f"FAILED  {command[0]}: {done.stdout}{done.stderr}")
    return done.stdout


class Case:
    """A listener, and the notifier that sends to it. `to` and `reached` are addresses; by default everybody is reached."""

    def __init__(self, name, options="tls: none", people=1, to=None, reached=None, picture=True, sender="lowtide@example.com"):
        self.name, self.options, self.picture, self.sender = name, options, picture, sender
        self.port = port()
        self.to = to or [f"{name}-{n:02}@example.com" for n in range(1, people + 1)]
        self.reached = reached or [email.utils.parseaddr(address)[1] for address in self.to]

    def notifier(self, key=None, more=""):
        to = json.dumps(self.to, ensure_ascii=False)
        return (
            f"  {key or self.name}: {{ type: email, host: localhost, port: {self.port}, {self.options}{more}, "
            f"from: 'Lowtide <{self.sender}>', to: {to} }}\n"
        )


def secured(tls):
    return f"tls: {tls}, ca_file: {path('tls/ca.pem')}, username: {USER}"


def cases(server):
    """What both servers can do, each in its own way."""
    name = lambda case: f"{server}-{case}"
    fifty = [f"Person {n:02} of the finance department <{name('stock')}-{n:02}@example.com>" for n in range(1, 11)]
    fifty += [f"{name('stock')}-{n:02}@example.com" for n in range(11, 51)]  # unfolded, a line of more than 998 octets
    return {
        # As the packages come, to a client from outside: no relaying; Exim also refuses bad headers and lines over 998 octets.
        "stock": Case(name("stock"), to=fifty),
        "starttls": Case(name("starttls"), secured("starttls")),
        "implicit": Case(name("implicit"), secured("implicit")),
        "hello": Case(name("hello")),
        "few": Case(name("few"), people=MANY),
        "small": Case(name("small"), picture=False),
        "grey": Case(name("grey"), people=3),
        "umlaut": Case(
            name("umlaut"), to=[f"{name('umlaut')}@müller-söhne.de"], sender="lowtide@müller-söhne.de",
            reached=[f"{name('umlaut')}@xn--mller-shne-kcb9d.de"],
        ),
    }


class Policy(socketserver.ThreadingTCPServer):
    """Decides about recipients, for Postfix as its policy protocol has it, for Exim by one word for one line. The first time, and
    for some seconds, it says "later"; before every answer it waits."""

    daemon_threads = allow_reuse_address = True

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            recipient = ""
            for line in iter(self.rfile.readline, b""):
                key, is_attribute, value = line.decode("utf-8", "replace").strip().partition("=")
                if key and not is_attribute:
                    self.wfile.write(b"later" if self.server.is_new(key) else b"now")
                    return
                if key == "recipient":
                    recipient = value
                elif not key:
                    verdict = b"450 4.7.1 greylisted" if self.server.is_new(recipient) else b"dunno"
                    self.wfile.write(b"action=" + verdict + b"\n\n")

    def __init__(self, later=0, wait=0):
        super().__init__(("127.0.0.1", 0), self.Handler)
        self.later, self.wait, self.seen, self.lock = later, wait, {}, threading.Lock()
        self.port = self.server_address[1]
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def is_new(self, recipient):
        time.sleep(self.wait)
        with self.lock:
            return time.monotonic() < self.seen.setdefault(recipient, time.monotonic()) + self.later


class Postfix:
    """Without its own users: it runs as `daemon` and delivers as `nobody`. One smtpd a case."""

    def __init__(self, greylist, slow):
        self.cases = cases("postfix") | {
            "named": Case("postfix-named", "tls: none, hello: lowtide.example.com"),
            "slow": Case("postfix-slow", "tls: none, timeout: 1s", people=MANY),
            # Says nothing of its limit beforehand.
            "large": Case("postfix-large", picture=False),
            "utf8": Case("postfix-utf8", to=["jürgen@example.com", "postfix-utf8@müller-söhne.de"],
                         reached=["jürgen@example.com", "postfix-utf8@xn--mller-shne-kcb9d.de"]),
        }
        self.greylist, self.slow = greylist, slow
        self.started = None

    def start(self):
        libraries, conf = os.path.join(SERVERS, "usr/lib/postfix"), path("postfix/conf")
        queue = path("postfix/queue")
        daemon, nobody = pwd.getpwnam("daemon"), pwd.getpwnam("nobody")
        os.makedirs(queue)
        for name in "active bounce corrupt defer deferred flush hold incoming private saved trace".split():
            os.chmod(folder(f"postfix/queue/{name}", "daemon"), 0o700)
        for name in ("maildrop", "public"):
            os.chmod(folder(f"postfix/queue/{name}", "daemon"), 0o755)
        os.makedirs(path("postfix/queue/pid"))
        folder("postfix/data", "daemon")
        folder("boxes/postfix", "nobody")
        people = {address for case in self.cases.values() for address in case.reached}
        boxes = "".join(f"{address} {'/'.join(reversed(address.rsplit('@', 1)))}/\n" for address in people)
        write("postfix/conf/boxes", boxes)
        write("postfix/conf/sasl/smtpd.conf",
              f"pwcheck_method: auxprop\nauxprop_plugin: sasldb\nmech_list: PLAIN LOGIN\nsasldb_path: {conf}/sasldb\n")
        environment = os.environ | {"LD_LIBRARY_PATH": libraries}
        run(os.path.join(SERVERS, "usr/sbin/saslpasswd2"), "-p", "-c", "-u", "mail.example.com", "-f", f"{conf}/sasldb", USER,
            input=PASSWORD)
        os.chown(f"{conf}/sasldb", daemon.pw_uid, daemon.pw_gid)
        with open(os.path.join(SERVERS, "usr/share/postfix/main.cf.debian"), encoding="utf-8") as file:
            stock = file.read()
        write("postfix/conf/main.cf", f"""{stock}
# Where it is
queue_directory = {queue}
data_directory = {path('postfix/data')}
command_directory = {SERVERS}/usr/sbin
daemon_directory = {libraries}/sbin
shlib_directory = {libraries}
import_environment = MAIL_CONFIG MAIL_DEBUG MAIL_LOGTAG LD_LIBRARY_PATH={libraries} TZ LANG=C
maillog_file = {path('postfix/log')}
maillog_file_prefixes = {FOLDER}
mail_owner = daemon
setgid_group = operator
# Who it is
myhostname = mail.example.com
mydestination = localhost
alias_maps =
alias_database =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 192.0.2.1
smtpd_relay_restrictions = permit_mynetworks permit_sasl_authenticated defer_unauth_destination
disable_dns_lookups = yes
# The usual checks, as far as they need no DNS
strict_rfc821_envelopes = yes
smtpd_helo_required = yes
smtpd_sender_restrictions = reject_non_fqdn_sender
smtpd_recipient_restrictions = reject_non_fqdn_recipient reject_unauth_pipelining
smtpd_data_restrictions = reject_unauth_pipelining reject_multi_recipient_bounce
# Mailboxes
virtual_mailbox_domains = example.com xn--mller-shne-kcb9d.de
virtual_mailbox_base = {BOXES}/postfix
virtual_mailbox_maps = texthash:{conf}/boxes
virtual_uid_maps = static:{nobody.pw_uid}
virtual_gid_maps = static:{nobody.pw_gid}
# TLS and logins
smtpd_tls_cert_file = {path('tls/server.pem')}
smtpd_tls_key_file = {path('tls/server.key')}
smtpd_tls_auth_only = yes
smtpd_sasl_type = cyrus
smtpd_sasl_path = smtpd
cyrus_sasl_config_path = {conf}/sasl
smtpd_sasl_local_domain = $myhostname
""")
        login = ["smtpd_sasl_auth_enable=yes", "smtpd_recipient_restrictions=permit_sasl_authenticated,reject"]
        hello = "smtpd_helo_restrictions=reject_invalid_helo_hostname,reject_non_fqdn_helo_hostname"
        asks = lambda policy: f"smtpd_recipient_restrictions=check_policy_service,inet:127.0.0.1:{policy.port}"
        options = {
            "starttls": [*login, "smtpd_tls_security_level=encrypt", "smtpd_sasl_mechanism_filter=plain"],
            "implicit": [*login, "smtpd_tls_wrappermode=yes", "smtpd_sasl_mechanism_filter=login"],
            "hello": [hello],
            "named": [hello],
            "slow": [asks(self.slow)],
            "few": [f"smtpd_recipient_limit={FEW}"],
            "small": [f"message_size_limit={SMALL}"],
            "large": [f"message_size_limit={SMALL}", "smtpd_discard_ehlo_keywords=size"],
            "grey": [asks(self.greylist)],
            "umlaut": ["smtputf8_enable=no"],
        }
        services = []
        for name, case in self.cases.items():
            settings = [f"-o {option}" for option in ["smtpd_tls_security_level=may", *options.get(name, [])]]
            services.append(f"127.0.0.1:{case.port} inet n - n - - smtpd {' '.join(settings)}")
        services += [f"{name} unix {rest}" for name, rest in (line.split(" ", 1) for line in """\
cleanup n - n - 0 cleanup
qmgr n - n 300 1 qmgr
tlsmgr - - n 1000? 1 tlsmgr
rewrite - - n - - trivial-rewrite
bounce - - n - 0 bounce
defer - - n - 0 bounce
trace - - n - 0 bounce
anvil - - n - 1 anvil
virtual - n n - - virtual
error - - n - - error
retry - - n - - error
proxymap - - n - - proxymap
""".splitlines())]
        services.append("postlog unix-dgram n - n - 1 postlogd")
        write("postfix/conf/master.cf", "\n".join(services) + "\n")
        log = open(path("postfix/out"), "w")
        self.started = subprocess.Popen([f"{libraries}/sbin/master", "-c", conf, "-d"], env=environment, stdout=log, stderr=log)

    def stop(self):
        self.started.terminate()
        self.started.wait()

    def logs(self):
        return "".join(read(name) for name in ("postfix/out", "postfix/log") if os.path.exists(path(name)))

    def boxes(self, address):
        local, domain = address.rsplit("@", 1)
        return glob.glob(f"{BOXES}/postfix/{domain}/{local}/new/*")


class Exim:
    """Debian's configuration with its own hooks filled in, as the package's user. What is no option by port has a daemon of its own."""

    def __init__(self, greylist):
        self.cases = cases("exim") | {
            "verified": Case("exim-verified", "tls: none, hello: '[127.0.0.1]'"),
            # Refuses whom it does not want any more with 552, and then the whole message.
            "strict": Case("exim-strict", people=MANY),
        }
        self.greylist = greylist
        self.started = []

    def start(self):
        case = {name: case.port for name, case in self.cases.items()}
        apart = {"few": f"recipients_max = {FEW}", "strict": f"recipients_max = {FEW}\nrecipients_max_reject"}
        folder("boxes/exim", "Debian-exim")
        people = {address.rsplit("@", 1)[0] for it in self.cases.values() for address in it.reached}
        write("exim/people", "".join(f"{name}: {name}\n" for name in sorted(people | {"lowtide"})))
        is_port = lambda name: f"${{if eq{{$received_port}}{{{case[name]}}}}}"
        write("exim/rcpt", f"""
deny condition = {is_port("hello")}
  condition = ${{if match{{$sender_helo_name}}{{\\N\\.\\N}}{{no}}{{yes}}}}
  message = the name in HELO has no domain
deny condition = {is_port("verified")}
  !verify = helo
  message = the name in HELO is not yours
defer condition = {is_port("grey")}
  condition = ${{if eq{{${{readsocket{{inet:127.0.0.1:{self.greylist.port}}}{{$local_part@$domain\\n}}}}}}{{later}}}}
  message = greylisted
deny condition = ${{if inlist{{$received_port}}{{{case["starttls"]}:{case["implicit"]}}}}}
  message = authentication required
""")
        with open(os.path.join(SERVERS, "etc/exim4/exim4.conf.template"), encoding="utf-8") as file:
            template = file.read()
        together = [number for name, number in case.items() if name not in apart]
        self.daemon("stock", template, together, f"tls_on_connect_ports = {case['implicit']}")
        for name, options in apart.items():
            self.daemon(name, template, [case[name]], options)

    def daemon(self, name, template, ports, options):
        spool, binary = folder(f"exim/{name}", "Debian-exim"), os.path.join(SERVERS, "usr/sbin/exim4")
        offers = lambda case: f"${{if and{{{{def:tls_in_cipher}}{{eq{{$received_port}}{{{self.cases[case].port}}}}}}}}}"
        sections = {
            "begin acl": f"""
primary_hostname = mail.example.com
daemon_smtp_ports = {" : ".join(map(str, ports))}
log_file_path = {spool}/%slog
pid_file_path = {spool}/pid
deliver_drop_privilege
{options}
begin acl
""",
            "begin routers": """
begin routers
boxes:
  driver = accept
  domains = +local_domains
  local_parts = lsearch;PEOPLE
  transport = boxes
""",
            "begin transports": f"""
begin transports
boxes:
  driver = appendfile
  directory = {BOXES}/exim/$local_part_data
  maildir_format
  create_directory
""",
            "begin authenticators": f"""
begin authenticators
server_plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and{{{{eq{{$auth2}}{{{USER}}}}}{{eq{{$auth3}}{{{PASSWORD}}}}}}}}}
  server_set_id = $auth2
  server_advertise_condition = {offers("starttls")}
server_login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = <| Username: | Password:
  server_condition = ${{if and{{{{eq{{$auth1}}{{{USER}}}}}{{eq{{$auth2}}{{{PASSWORD}}}}}}}}}
  server_set_id = $auth1
  server_advertise_condition = {offers("implicit")}
""",
        }
        text = re.sub("^exim_path = .*$", f"exim_path = {binary}", template, flags=re.M)
        for begin, instead in sections.items():
            text = re.sub(f"^{begin}$", lambda _: instead, text, flags=re.M)
        conf = write(f"exim/{name}.conf", f"""
CONFDIR = {path('exim')}
SPOOLDIR = {spool}
PEOPLE = {path('exim/people')}
DCconfig_internet = 1
DISABLE_DKIM_VERIFY = 1
ETC_MAILNAME = mail.example.com
MAIN_LOCAL_DOMAINS = @ : localhost : example.com : xn--mller-shne-kcb9d.de
MAIN_RELAY_TO_DOMAINS =
MAIN_RELAY_NETS = 192.0.2.1
MAIN_LOCAL_INTERFACES = <; 127.0.0.1
MAIN_HOST_LOOKUP =
MAIN_TLS_ENABLE = 1
MAIN_TLS_CERTIFICATE = {path('tls/server.pem')}
MAIN_TLS_PRIVATEKEY = {path('tls/server.key')}
MESSAGE_SIZE_LIMIT = ${{if eq{{$received_port}}{{{self.cases["small"].port}}}{{{SMALL}}}{{50M}}}}
LOCAL_DELIVERY = boxes
# The usual checks, as far as they need no DNS
CHECK_RCPT_VERIFY_SENDER = 1
CHECK_DATA_VERIFY_HEADER_SENDER = 1
CHECK_RCPT_LOCAL_ACL_FILE = {path('exim/rcpt')}
{text}""")
        log = open(path(f"exim/{name}.out"), "w")
        self.started.append(subprocess.Popen([binary, "-C", conf, "-bdf", "-q10s"], stdout=log, stderr=log))

    def stop(self):
        for process in self.started:
            process.terminate()
            process.wait()

    def logs(self):
        return "".join(map(read, glob.glob(path("exim/*.out")) + glob.glob(path("exim/*/mainlog"))))

    def boxes(self, address):
        return glob.glob(f"{BOXES}/exim/{address.rsplit('@', 1)[0]}/new/*")


def certificates():
    """A certificate authority, and a certificate of localhost by it."""
    os.makedirs(path("tls"))
    names = write("tls/names", "subjectAltName = DNS:localhost\n")
    key = lambda name: ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", path(f"tls/{name}.key")]
    run("openssl", "req", "-x509", *key("ca"), "-subj", "/CN=CA of the mail tests", "-days", "2", "-out", path("tls/ca.pem"))
    run("openssl", "req", *key("server"), "-subj", "/CN=localhost", "-out", path("tls/server.csr"))
    run("openssl", "x509", "-req", "-in", path("tls/server.csr"), "-CA", path("tls/ca.pem"), "-CAkey", path("tls/ca.key"),
        "-CAcreateserial", "-days", "2", "-extfile", names, "-out", path("tls/server.pem"))
    os.chmod(path("tls/server.key"), 0o644)  # both servers' users read it


def configure(name, notifiers, api):
    return write(f"{name}.yaml", f"""\
schedule: every 1s
state: {name}.json
accounts:
  acme: {{ api_key: sandbox-api-key, base_url: "http://127.0.0.1:{api}/services/v2" }}
notifiers:
{notifiers}rules:
  funds: {{ metric: available_funds, warning: {{ below: 1000000 }}, description: Ask Finance for a purchase order. }}
""", 0o600)


def lowtide(*args):
    return subprocess.run([BINARY, *args], env=ENVIRONMENT, text=True, capture_output=True, timeout=60)


ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("LOWTIDE_", "RUST_LOG"))}


def logins(servers, api):
    """The right password is taken by PLAIN and by LOGIN, the wrong one is not; all tests have a Message-ID of their own."""
    tests = [(server, server.cases[name]) for server in servers for name in ("starttls", "implicit")]
    notifiers, expected = "", {}
    for _, case in tests:
        notifiers += case.notifier(more=f", password: {PASSWORD}")
        notifiers += case.notifier(f"{case.name}-wrong", ", password: wrong-horse-battery")
        expected |= {case.name: True, f"{case.name}-wrong": False}
    done = lowtide("test-notify", "-c", configure("logins", notifiers, api), "-o", "json")
    outcomes = {it["notifier"]: it for it in json.loads(done.stdout)}
    for name, delivered in expected.items():
        it = outcomes[name]
        what = "delivers a test" if delivered else "is refused with 535"
        check(f"{name}: {what}", it["delivered"] == delivered and (delivered or "535" in it["detail"]), it)
    check("test-notify exits 1 where one fails", done.returncode == 1, done)
    check("no password is shown", "horse" not in done.stdout + done.stderr)
    boxes = lambda: [file for server, case in tests for file in server.boxes(case.reached[0])]
    until(lambda: len(boxes()) >= len(tests), 15)
    ids = [parsed(file)["Message-ID"] for file in boxes()]
    check("the tests arrive, each with a Message-ID of its own", len(ids) == len(set(ids)) == len(tests), ids)
    for file in boxes():
        os.remove(file)


def parsed(file):
    with open(file, "rb") as raw:
        return email.message_from_binary_file(raw, policy=email.policy.default)


def alerts(servers, api):
    """Everybody gets the same alert once, whatever the server is like."""
    every = [(server, case) for server in servers for case in server.cases.values()]
    password = lambda case: f", password: {PASSWORD}" if "username" in case.options else ""
    config = configure("alerts", "".join(case.notifier(more=password(case)) for _, case in every), api)
    with open(path("lowtide.log"), "wb") as log:
        service = subprocess.Popen([BINARY, "run", "-c", config], env=ENVIRONMENT, stdout=log, stderr=log)
    try:
        arrived = lambda: all(server.boxes(address) for server, case in every for address in case.reached)
        until(lambda: arrived() or service.poll() is not None)
        time.sleep(3)  # for what should not come
    finally:
        service.send_signal(signal.SIGTERM)
    check("the service ends with 0", service.wait(30) == 0, service.returncode)
    seen = {}
    for server, case in every:
        files = {address: server.boxes(address) for address in case.reached}
        counts = {address: len(found) for address, found in files.items() if len(found) != 1}
        if check(f"{case.name}: each of {len(files)} has it once", not counts, counts):
            mails = [found[0] for found in files.values()]
            wrong = sorted({fault for file in mails for fault in faults(file, case)})
            check(f"{case.name}: what arrived is right", not wrong, wrong)
            for identity in {identity for file in mails for identity in identities(parsed(file))}:
                seen.setdefault(identity, set()).add(case.name)
    shared = {identity: names for identity, names in seen.items() if len(names) > 1}
    check("no two messages share a Message-ID or a Content-ID", not shared, shared)


def identities(mail):
    return {mail["Message-ID"], *(part["Content-ID"] for part in mail.walk() if part["Content-ID"])}


def faults(file, case):
    """What is wrong with a mail in a mailbox."""
    with open(file, "rb") as raw:
        octets = raw.read()
    mail = parsed(file)
    longest = max(map(len, octets.splitlines()))
    if longest > 998:
        yield f"a line of {longest} octets"
    head = octets.split(b"\n\n")[0].decode()
    own = re.search(r"^(From: Lowtide.*)", head, re.M | re.S)[1]  # the servers put theirs before it
    yield from (f"a header line of {len(line)} octets: {line}" for line in own.splitlines() if len(line) > 78)
    expected = {
        "From": f"Lowtide <{ascii_domain(case.sender)}>",
        "Auto-Submitted": "auto-generated",
        "Message-ID": re.compile(rf"<[0-9a-f]{{32}}@{re.escape(ascii_domain(case.sender).split('@')[1])}>"),
        "Subject": re.compile(r"\[warning\] acme: .*"),
        "Date": re.compile(r".* \+0000"),
    }
    for name, wanted in expected.items():
        found = str(mail[name])
        if not (wanted.fullmatch(found) if isinstance(wanted, re.Pattern) else wanted == found):
            yield f"{name}: {found}"
    utf8 = lambda text: text.encode("ascii", "surrogateescape").decode() if not text.isascii() else text
    to = [(it.display_name, utf8(it.addr_spec)) for it in mail["To"].addresses]
    if to != [(name, ascii_domain(address)) for name, address in email.utils.getaddresses(case.to)]:
        yield f"To: {to}"
    text, page = mail.get_body(("plain",)), mail.get_body(("html",))
    for what, body in (("text", text), ("html", page)):
        if not body or not re.search(r"USD[ \u00a0][\d,]+\.\d\d left", body.get_content()):
            yield f"the {what} does not say what is left"
    pictures = [part for part in mail.walk() if part.get_content_type() == "image/png"]
    shown = re.findall(r'src="cid:([^"]+)"', page.get_content() if page else "")
    if [f"<{it}>" for it in shown] != [part["Content-ID"] for part in pictures]:
        yield f"pictures {[part['Content-ID'] for part in pictures]}, shown {shown}"
    if bool(pictures) != case.picture:
        yield f"{len(pictures)} pictures"
    if any(not part.get_content().startswith(b"\x89PNG") for part in pictures):
        yield "a picture is none"
    if not page or "Chart of available funds" not in page.get_content():
        yield "the html does not say what the picture shows"


def ascii_domain(address):
    local, domain = address.rsplit("@", 1)
    return f"{local}@{domain.encode('idna').decode()}"


def main():
    # So that what was started is stopped also where this takes too long.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("FAILED  it took too long"))
    certificates()
    os.makedirs(BOXES)
    greylist, slow = Policy(later=GREYLISTED), Policy(wait=SLOW)
    servers, api = [Postfix(greylist, slow), Exim(greylist)], port()
    while _taken:
        _taken.pop().close()
    log = open(path("sandbox.log"), "w")
    sandbox = subprocess.Popen([BINARY, "sandbox", "--listen", f"127.0.0.1:{api}", "--speed", "1", "--passed", "16d"],
                               env=ENVIRONMENT, stdout=log, stderr=log)
    try:
        for server in servers:
            server.start()
        ports = [api] + [case.port for server in servers for case in server.cases.values()]
        if check("the servers are ready", until(lambda: all(map(listens, ports)), 30), [it for it in ports if not listens(it)]):
            logins(servers, api)
            alerts(servers, api)
    finally:
        sandbox.terminate()
        for server in servers:
            server.stop()
    if failed:
        shown = {"lowtide": read("lowtide.log") if os.path.exists(path("lowtide.log")) else ""}
        shown |= {type(server).__name__: server.logs() for server in servers}
        for name, text in shown.items():
            print(f"--- log of {name}\n{text[-20000:]}")
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


main()
