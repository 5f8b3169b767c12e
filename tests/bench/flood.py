#!/usr/bin/env python3
"""Hostile datagrams at a fixed rate; never reads an answer.

Invariant: no two packets are the same request (branch, Call-ID, tag), so nothing is absorbed
as a retransmission.

usage: flood.py KIND HOST ADDRESS RATE SECONDS USERS     prints how many packets left, as JSON
"""

import json
import os
import socket
import sys
import time

from phone import DOMAIN, SDP, Sender

KINDS = ("garbage", "register", "guess", "invite", "options", "stray")


def packet(kind, sender, mark, i, users):
    call, user = f"f{mark}{i}", i % users
    sender.user = f"u{user}"
    if kind == "garbage":
        return os.urandom(40 + i % 400)
    if kind == "register":      # no credentials: each one wants a challenge
        return sender.register(call, 1)
    if kind == "guess":         # a made-up answer to a challenge never given
        return sender.register(call, 1, (
            f'Authorization: Digest username="u{user}", realm="{DOMAIN}", nonce="{i:032x}", '
            f'uri="sip:{DOMAIN}", algorithm=MD5, qop=auth, nc=00000001, cnonce="1", response="{i:032x}"\r\n'))
    if kind == "invite":        # a stranger calls users
        return sender.request("INVITE", f"sip:u{user}@{DOMAIN}", call, 1, f"<sip:u{user}@{DOMAIN}>",
                              body=SDP, kind="application/sdp")
    if kind == "options":
        return sender.request("OPTIONS", f"sip:{DOMAIN}", call, 1, f"<sip:{DOMAIN}>")
    return (f"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP {sender.address};branch=z9hG4bK{call}\r\n"
            f"From: <sip:a@{DOMAIN}>;tag=1\r\nTo: <sip:b@{DOMAIN}>;tag={i}\r\nCall-ID: {call}\r\n"
            f"CSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n").encode()


def main():
    kind, host, address, rate, seconds, users = sys.argv[1:7]
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((address, 0))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect((host, 5060))
    sender = Sender("UDP", "%s:%d" % sock.getsockname(), "u0")
    mark, rate, total, sent = f"{os.getpid():x}x", float(rate), int(float(rate) * float(seconds)), 0
    begin = time.perf_counter()
    while sent < total:
        due = min(total, int((time.perf_counter() - begin) * rate) + 1)
        while sent < due:
            try:
                sock.send(packet(kind, sender, mark, sent, int(users)))
            except OSError:
                pass    # refused or full: it counts as sent, as on a wire
            sent += 1
        time.sleep(0.0005)
    print(json.dumps({"sent": sent, "seconds": time.perf_counter() - begin}))


if __name__ == "__main__":
    main()
