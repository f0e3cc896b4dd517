"""A real Prometheus scrapes the service, which reads the sandbox.

Its samples must be what the sandbox's ledger says, and `promtool check metrics` must find no fault. Called by the script
`metrics` beside this file: metrics.py BINARY.
"""

import decimal
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

BINARY = os.path.abspath(sys.argv[1])
DEADLINE = 60  # seconds, for each thing that is waited for


def port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def get(url, headers=None):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), timeout=5) as answer:
        return answer.read().decode()


def until(what, condition):
    end = time.monotonic() + DEADLINE
    while True:
        try:
            if found := condition():
                return found
        except OSError:
            pass
        if time.monotonic() > end:
            sys.exit(f"FAILED  waited in vain for {what}")
        time.sleep(0.1)


api, http, prometheus = port(), port(), port()
folder = tempfile.TemporaryDirectory()
path = lambda name: os.path.join(folder.name, name)
with open(path("alerts.yaml"), "w") as file:
    file.write(f"""schedule: every 1s
accounts:
  sandbox: {{ api_key: sandbox-api-key, base_url: "http://127.0.0.1:{api}/services/v2", divisions: all }}
notifiers:
  nobody: {{ type: slack, webhook_url: "http://127.0.0.1:1/T/B/x" }}
rules:
  funds: {{ metric: available_funds, warning: {{ below: 2000 }}, critical: {{ below: 500 }} }}
http: {{ listen: "127.0.0.1:{http}", token: scrape-me-0123456789 }}
""")
with open(path("prometheus.yml"), "w") as file:
    file.write(f"""global: {{ scrape_interval: 1s }}
scrape_configs:
  - job_name: lowtide
    authorization: {{ credentials: scrape-me-0123456789 }}
    static_configs: [{{ targets: ["127.0.0.1:{http}"] }}]
""")

started = []


def start(*command):
    log = open(path(os.path.basename(command[0]) + str(len(started))), "w")
    started.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=folder.name))


def query(metric):
    url = f"http://127.0.0.1:{prometheus}/api/v1/query?" + urllib.parse.urlencode({"query": metric})
    return json.loads(get(url))["data"]["result"]


try:
    # As fast as time itself: nothing is ordered between a reading and its comparison.
    start(BINARY, "sandbox", "--listen", f"127.0.0.1:{api}", "--scenario", "divisions", "--speed", "1")
    start(BINARY, "run", "-c", path("alerts.yaml"))
    start("prometheus", f"--config.file={path('prometheus.yml')}", f"--storage.tsdb.path={path('data')}",
          f"--web.listen-address=127.0.0.1:{prometheus}", "--log.level=error")
    url, key = f"http://127.0.0.1:{api}/services/v2", {"X-DC-DEVKEY": "sandbox-api-key"}
    listed = until("the sandbox", lambda: json.loads(get(f"{url}/container", key))["containers"])
    samples = until("the samples", lambda: len(found := query("lowtide_balance")) == len(listed) and found)
    for sample in samples:
        division, currency = sample["metric"]["division"], sample["metric"]["currency"]
        ledger = json.loads(get(f"{url}/finance/balance?container_id={division}", key))
        # Prometheus stores floats; cents survive that.
        seen, wanted = decimal.Decimal(sample["value"][1]), decimal.Decimal(ledger["balance"])
        if (seen, currency) != (wanted, ledger["currency"]):
            sys.exit(f"FAILED  division {division}: Prometheus has {seen} {currency}, the ledger {wanted}")
        print(f"ok      division {division}: {currency} {seen}")
    page = get(f"http://127.0.0.1:{http}/metrics", {"Authorization": "Bearer scrape-me-0123456789"})
    judged = subprocess.run(["promtool", "check", "metrics"], input=page, text=True, capture_output=True)
    if judged.returncode or judged.stdout or judged.stderr:
        sys.exit(f"FAILED  promtool: {judged.stdout}{judged.stderr}")
    print("ok      promtool check metrics")
finally:
    for process in started:
        process.terminate()
    for process in started:
        process.wait()
