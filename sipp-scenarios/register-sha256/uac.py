#!/usr/bin/env python3
"""REGISTER with digest SHA-256 (RFC 7616, RFC 8760), computed here because sipp 3.6 knows MD5 only.

usage: uac.py HOST PORT DOMAIN LOCAL_ADDRESS USER PASSWORD
Exit 0 when every step went as the README's ladder says; otherwise one line that says which did not.
"""

import hashlib
import random
import re
import socket
import sys

HOST, PORT, DOMAIN, LOCAL, USER, PASSWORD = sys.argv[1:7]
URI = f"sip:{DOMAIN}"
CALL_ID = f"{random.getrandbits(64):x}@{LOCAL}"
TAG = f"{random.getrandbits(32):x}"

sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind((LOCAL, 0))
sock.settimeout(0.5)
PLACE = f"{LOCAL}:{sock.getsockname()[1]}"


def fail(why):
    sys.exit(f"register-sha256: {why}")


def headers(message, name):
    return re.findall(rf"(?im)^{name}\s*:\s*(.*?)\s*$", message.split("\r\n\r\n", 1)[0])


def ask(cseq, authorization=None, expires=600):
    """Sends one REGISTER as UDP asks for it (RFC 3261 §17.1.2) and gives its final response."""
    lines = [
        f"REGISTER {URI} SIP/2.0",
        f"Via: SIP/2.0/UDP {PLACE};branch=z9hG4bK{random.getrandbits(64):x};rport",
        "Max-Forwards: 70",
        f"From: <sip:{USER}@{DOMAIN}>;tag={TAG}",
        f"To: <sip:{USER}@{DOMAIN}>",
        f"Call-ID: {CALL_ID}",
        f"CSeq: {cseq} REGISTER",
        f"Contact: <sip:{USER}@{PLACE}>",
        f"Expires: {expires}",
    ]
    if authorization:
        lines.append(f"Authorization: {authorization}")
    request = "\r\n".join(lines + ["Content-Length: 0", "", ""]).encode()
    for _ in range(8):
        sock.sendto(request, (HOST, int(PORT)))
        try:
            while True:
                response = sock.recv(65536).decode()
                if headers(response, "CSeq") == [f"{cseq} REGISTER"] and int(response[8:11]) >= 200:
                    return int(response[8:11]), response
        except socket.timeout:
            continue
    fail(f"no answer to CSeq {cseq}")


def challenges(response):
    """The challenges in the order in which the server prefers them (RFC 8760 §2.3)."""
    found = []
    for value in headers(response, "WWW-Authenticate"):
        fields = {key.lower(): quoted or plain for key, quoted, plain in re.findall(r'(\w+)=(?:"([^"]*)"|([^\s,]+))', value)}
        found.append(fields)
    return found


def answer(challenge, count, password=PASSWORD):
    def h(text):
        return hashlib.sha256(text.encode()).hexdigest()

    cnonce, nc = f"{random.getrandbits(64):x}", f"{count:08x}"
    a1, a2 = h(f"{USER}:{challenge['realm']}:{password}"), h(f"REGISTER:{URI}")
    response = h(f"{a1}:{challenge['nonce']}:{nc}:{cnonce}:auth:{a2}")
    opaque = f', opaque="{challenge["opaque"]}"' if "opaque" in challenge else ""
    return (
        f'Digest username="{USER}", realm="{challenge["realm"]}", nonce="{challenge["nonce"]}", uri="{URI}", '
        f'response="{response}", algorithm=SHA-256, qop=auth, nc={nc}, cnonce="{cnonce}"{opaque}'
    )


def expect(status, step, *wanted):
    if status not in wanted:
        fail(f"{step}: {status} instead of {' or '.join(map(str, wanted))}")


status, response = ask(1)
expect(status, "without credentials", 401)
offered = [challenge.get("algorithm", "MD5").upper() for challenge in challenges(response)]
if not offered or offered[0] != "SHA-256" or "MD5" not in offered:
    fail(f"challenges offered, in order: {offered}; wanted SHA-256, then MD5")
sha256 = challenges(response)[0]
if "auth" not in [value.strip() for value in sha256.get("qop", "").split(",")]:
    fail("the challenge has no qop=auth")

first = answer(sha256, 1)
status, response = ask(2, first)
expect(status, "SHA-256 answer", 200)
if PLACE not in " ".join(headers(response, "Contact")):
    fail("the 200 does not list the contact")

expect(ask(3, answer(sha256, 2))[0], "the same nonce, counted on", 200)
expect(ask(4, first)[0], "a replayed answer (nc already used)", 401)
expect(ask(5, answer(sha256, 3, "guessed"))[0], "a wrong password", 401, 403)
expect(ask(6, answer(sha256, 4), expires=0)[0], "removal", 200)
