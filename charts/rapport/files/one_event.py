"""Sends one event through the gateway and reads its profile back. The keys are made for this, and revoked after it."""

import base64
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid

GATEWAY = "http://gateway:8080"
TENANT = "helm-test"
PATIENCE_S = 60.0


def administer(*arguments):
    command = [sys.executable, "-m", "services.gateway.administer", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        sys.exit(f"{' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def key(kind):
    text, about = administer("create-key", TENANT, "--kind", kind).splitlines()[:2]
    return text, about.split("its id is ")[1].split(",")[0]


def call(path, secret, body=None):
    headers = {"authorization": "Basic " + base64.b64encode(f"{secret}:".encode()).decode()}
    request = urllib.request.Request(GATEWAY + path, headers=headers, data=json.dumps(body).encode() if body else None)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def read_back(user, secret):
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return call(f"/v1/profiles/user_id:{user}", secret)
        except urllib.error.HTTPError as error:
            if error.code != 404 or time.monotonic() > end:
                sys.exit(f"The profile can't be read: {error.code} {error.read().decode()[:500]}")
        time.sleep(0.2)


def main():
    administer("create-tenant", TENANT)
    (write, write_id), (private, private_id) = key("write"), key("private")
    try:
        user = uuid.uuid4().hex
        started = time.monotonic()
        print("sent:", json.dumps(call("/v1/track", write, {"userId": user, "event": "Helm Test"})))
        print("read:", json.dumps(read_back(user, private)))
        print(f"One event went round in {time.monotonic() - started:.2f} s.")
    finally:
        administer("revoke-key", write_id)
        administer("revoke-key", private_id)


main()
