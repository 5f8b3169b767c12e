"""The little of SIP that the bench's own clients speak: requests, answers, digest.

Invariant: text in, text out; no sockets and no clock, so the UDP probe and the stream
load share it.
"""

import hashlib
import re

DOMAIN = "bench.test"
TEXT = "The train is late; please start without me, and send the minutes to everybody who asked for them.\r\n"
SDP = ("v=0\r\no=caller 7 7 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
       "m=audio 40000 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n"
       "a=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n")


class Message:
    """A received message: `status` (0 for a request), `method` and its header fields."""

    def __init__(self, data):
        head, _, self.body = data.decode("utf-8", "replace").partition("\r\n\r\n")
        lines = head.split("\r\n")
        self.start = lines[0]
        self.fields = [(n.strip().lower(), v.strip()) for n, _, v in (line.partition(":") for line in lines[1:])]
        is_answer = self.start.startswith("SIP/2.0 ")
        self.status = int(self.start[8:11]) if is_answer else 0
        self.method = self.get("cseq").split()[-1] if is_answer else self.start.split(" ", 1)[0]

    def get(self, name):
        return next((v for n, v in self.fields if n == name), "")

    def all(self, name):
        return [v for n, v in self.fields if n == name]


class Sender:
    """Writes requests of one client: its transport, its own address, its user."""

    def __init__(self, transport, address, user, contact=None):
        self.transport, self.address, self.user = transport, address, user
        suffix = "" if transport == "UDP" else f";transport={transport.lower()}"
        self.contact = contact or f"<sip:{user}@{address}{suffix}>"

    def request(self, method, uri, call, cseq, to, extra="", body="", kind=""):
        head = (f"{method} {uri} SIP/2.0\r\n"
                f"Via: SIP/2.0/{self.transport} {self.address};branch=z9hG4bK{method[0]}{cseq}{call};rport\r\n"
                f"Max-Forwards: 70\r\nFrom: <sip:{self.user}@{DOMAIN}>;tag=t{call}\r\nTo: {to}\r\n"
                f"Call-ID: {call}\r\nCSeq: {cseq} {method}\r\nUser-Agent: bench\r\n")
        if method in ("INVITE", "REGISTER"):
            head += f"Contact: {self.contact}\r\n"
        if body:
            head += f"Content-Type: {kind}\r\n"
        return f"{head}{extra}Content-Length: {len(body)}\r\n\r\n{body}".encode()

    def register(self, call, cseq, credentials=""):
        return self.request("REGISTER", f"sip:{DOMAIN}", call, cseq, f"<sip:{self.user}@{DOMAIN}>",
                            credentials + "Expires: 3600\r\n")

    def invite(self, call, callee):
        uri = f"sip:{callee}@{DOMAIN}"
        return self.request("INVITE", uri, call, 1, f"<{uri}>", body=SDP, kind="application/sdp")

    def message(self, call, callee):
        uri = f"sip:{callee}@{DOMAIN}"
        return self.request("MESSAGE", uri, call, 1, f"<{uri}>", body=TEXT, kind="text/plain")

    def within(self, answer, method, cseq):
        """A request within the dialog that the 200 `answer` made (RFC 3261 §12.2.1.1)."""
        routes = [r.strip() for field in answer.all("record-route") for r in field.split(",")]
        target = re.search(r"<([^>]*)>", answer.get("contact")).group(1)
        return self.request(method, target, answer.get("call-id"), cseq, answer.get("to"),
                            "".join(f"Route: {r}\r\n" for r in reversed(routes)))


def credentials(challenged, user, secret, method, uri):
    """An Authorization line for a 401: by its MD5 challenge where there is one, so that
    every server is asked for the same arithmetic."""
    offers = [o for o in challenged.all("www-authenticate") if o.lower().startswith("digest")]
    chosen = next((o for o in offers if "sha" not in o.lower()), offers[0])
    value = {k.lower(): q if q else v for k, q, v in re.findall(r'(\w+)=(?:"([^"]*)"|([^",\s]+))', chosen)}
    algorithm = value.get("algorithm", "MD5")
    digest = hashlib.sha256 if algorithm.upper() == "SHA-256" else hashlib.md5

    def h(text):
        return digest(text.encode()).hexdigest()

    ha1, ha2 = h(f"{user}:{value['realm']}:{secret}"), h(f"{method}:{uri}")
    line = (f'Authorization: Digest username="{user}", realm="{value["realm"]}", nonce="{value["nonce"]}", '
            f'uri="{uri}", algorithm={algorithm}')
    if "qop" in value:
        response = h(f"{ha1}:{value['nonce']}:00000001:0a4f113b:auth:{ha2}")
        line += ', qop=auth, nc=00000001, cnonce="0a4f113b"'
    else:
        response = h(f"{ha1}:{value['nonce']}:{ha2}")
    if "opaque" in value:
        line += f', opaque="{value["opaque"]}"'
    return f'{line}, response="{response}"\r\n'


def answer(request, status, reason, contact, body=""):
    """A response as a called phone gives it."""
    to = request.get("to")
    if "tag=" not in to:
        to += ";tag=a" + request.get("call-id")[:24].replace("@", "")
    text = f"SIP/2.0 {status} {reason}\r\n"
    text += "".join(f"Via: {v}\r\n" for v in request.all("via"))
    text += "".join(f"Record-Route: {v}\r\n" for v in request.all("record-route"))
    text += (f"From: {request.get('from')}\r\nTo: {to}\r\nCall-ID: {request.get('call-id')}\r\n"
             f"CSeq: {request.get('cseq')}\r\nContact: {contact}\r\n")
    if body:
        text += "Content-Type: application/sdp\r\n"
    return f"{text}Content-Length: {len(body)}\r\n\r\n{body}".encode()
