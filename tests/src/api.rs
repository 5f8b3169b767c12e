//! A person at the JSON API: signed in, with a WebSocket of what happens.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

use crate::Server;
use crate::server::post;

const PATIENCE: Duration = Duration::from_secs(5);
const PASSWORD: &str = "long enough 1";

/// One person, signed in.
pub struct Api {
    address: SocketAddr,
    token: String,
}

impl Api {
    /// Gives the person a web password by a reset link, and signs in with it. A name alone is of the first domain.
    pub fn sign_in(server: &Server, name: &str) -> Api {
        let address = match name.contains('@') {
            true => name.to_owned(),
            false => format!("{name}@example.test"),
        };
        let link = server.cli(&["user", "reset-link", &address], "");
        let token = link.trim().split("/reset?token=").nth(1).expect("a token");
        let form = format!("token={token}&password=long+enough+1&again=long+enough+1");
        let kind = "application/x-www-form-urlencoded";
        post(server.http(), "/reset", kind, &form).expect("a password");
        let mut api = Api {
            address: server.http(),
            token: String::new(),
        };
        let ask = json!({ "address": address, "password": PASSWORD });
        let (status, signed) = api.call("POST", "/api/v1/auth/login", &ask);
        assert_eq!(status, 200, "{signed}");
        api.token = signed["access_token"].as_str().expect("a token").to_owned();
        api
    }

    /// Where the server is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The access token.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// One call; the status and the JSON of the answer, null where there is none.
    pub fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        self.call_with(method, path, body, "")
    }

    /// One call with further header lines, each ended by CRLF.
    pub fn call_with(&self, method: &str, path: &str, body: &Value, headers: &str) -> (u16, Value) {
        let answer = self.try_call(method, path, body, headers);
        answer.expect("an answer")
    }

    /// The same; nothing where the server is gone.
    pub fn try_call(
        &self,
        method: &str,
        path: &str,
        body: &Value,
        headers: &str,
    ) -> Option<(u16, Value)> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}\
             Authorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.address,
            self.token,
            body.len()
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.get(9..12)?.parse().ok()?;
        let body = serde_json::from_str(body).unwrap_or(Value::Null);
        Some((status, body))
    }

    /// A call that has to succeed.
    pub fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.call(method, path, body);
        assert!(
            (200..300).contains(&status),
            "{method} {path}: {status} {answer}"
        );
        answer
    }

    /// What the server answers to somebody who wants to hear what happens, and hangs up.
    pub fn upgrade_status(&self) -> u16 {
        let mut stream = TcpStream::connect(self.address).expect("the server");
        stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
        let request = format!(
            "GET /api/v1/events HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Authorization: Bearer {}\r\n\r\n",
            self.address, self.token
        );
        stream.write_all(request.as_bytes()).expect("sent");
        let mut line = [0; 12];
        stream.read_exact(&mut line).expect("an answer");
        let status = std::str::from_utf8(&line[9..]).expect("text");
        status.parse().expect("a status")
    }

    /// What happens from now on, or since an event.
    pub fn events(&self, after: Option<i64>) -> Events {
        let query = after
            .map(|after| format!("?after={after}"))
            .unwrap_or_default();
        let url = format!("ws://{}/api/v1/events{query}", self.address);
        let mut request = url.into_client_request().expect("a URL");
        let protocols = format!("sidetone, bearer.{}", self.token);
        let value = protocols.parse().expect("a header");
        request
            .headers_mut()
            .insert("Sec-WebSocket-Protocol", value);
        let stream = TcpStream::connect(self.address).expect("the server");
        stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
        let (socket, _) = tungstenite::client(request, stream).expect("a WebSocket");
        let mut events = Events { socket };
        assert_eq!(events.heard()["type"], "hello");
        events
    }
}

/// A WebSocket of what happens.
pub struct Events {
    socket: WebSocket<TcpStream>,
}

impl Events {
    /// The next that the server says.
    pub fn heard(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.socket.read().expect("news") {
                return serde_json::from_str(&text).expect("JSON");
            }
        }
    }

    /// The next of this type; others are passed over.
    pub fn expect(&mut self, kind: &str) -> Value {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            let told = self.heard();
            if told["type"] == kind {
                return told;
            }
        }
        panic!("no {kind} came");
    }

    /// The next event of a conversation with this type.
    pub fn event(&mut self, kind: &str) -> Value {
        loop {
            let told = self.expect("event");
            if told["event"]["type"] == kind {
                return told["event"].clone();
            }
        }
    }

    /// Says something to the server.
    pub fn say(&mut self, asked: &Value) {
        let text = Message::Text(asked.to_string().into());
        self.socket.send(text).expect("sent");
    }
}
