//! Files over the API: forms as a browser sends them, and answers as octets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::Api;

const BOUNDARY: &str = "a-boundary-of-the-tests";

/// What a server answered.
pub struct Reply {
    pub status: u16,
    head: String,
    pub body: Vec<u8>,
}

impl Reply {
    /// What an answer as it came says; nothing where it is none.
    pub fn read(answer: &[u8]) -> Option<Reply> {
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(answer.get(..end)?).into_owned();
        Some(Reply {
            status: head.get(9..12)?.parse().ok()?,
            body: answer.get(end + 4..)?.to_vec(),
            head,
        })
    }

    /// A header's value; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        let of = |line: &&str| {
            let named = line.split_once(':').map(|(name, _)| name.trim());
            named.is_some_and(|named| named.eq_ignore_ascii_case(name))
        };
        let line = self.head.lines().skip(1).find(of);
        line.and_then(|line| line.split_once(':'))
            .map_or("", |(_, value)| value.trim())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

/// The head of a form with one file, up to its content.
pub fn form_head(name: &str, declared: &str) -> String {
    format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
         Content-Type: {declared}\r\n\r\n"
    )
}

/// What ends such a form.
pub fn form_end() -> String {
    format!("\r\n--{BOUNDARY}--\r\n")
}

impl Api {
    /// The head of a request that brings a form; `length` is a header line.
    pub fn upload_head(&self, length: &str) -> String {
        format!(
            "POST /api/v1/files HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\
             Authorization: Bearer {}\r\n{length}\r\n\
             Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n",
            self.address(),
            self.token()
        )
    }

    /// Uploads; the answer whatever it is, nothing where the server is gone.
    pub fn try_upload(&self, name: &str, declared: &str, content: &[u8]) -> Option<Reply> {
        let (head, end) = (form_head(name, declared), form_end());
        let length = head.len() + content.len() + end.len();
        let mut stream = connect(self.address())?;
        let request = self.upload_head(&format!("Content-Length: {length}"));
        let parts = [request.as_bytes(), head.as_bytes(), content, end.as_bytes()];
        for part in parts {
            stream.write_all(part).ok()?;
        }
        answer(stream)
    }

    /// Uploads, which has to succeed.
    pub fn upload(&self, name: &str, declared: &str, content: &[u8]) -> Value {
        let reply = self.try_upload(name, declared, content).expect("an answer");
        let said = String::from_utf8_lossy(&reply.body).into_owned();
        assert_eq!(reply.status, 201, "{said}");
        reply.json()
    }

    /// A request without a body; `headers` are lines, each ended by CRLF.
    pub fn fetch(&self, method: &str, path: &str, headers: &str) -> Reply {
        let headers = format!("Authorization: Bearer {}\r\n{headers}", self.token());
        fetch(self.address(), method, path, &headers)
    }
}

/// A request without a body.
pub fn fetch(address: SocketAddr, method: &str, path: &str, headers: &str) -> Reply {
    let mut stream = connect(address).expect("the server");
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n"
    );
    stream.write_all(request.as_bytes()).expect("sent");
    answer(stream).expect("an answer")
}

pub fn connect(address: SocketAddr) -> Option<TcpStream> {
    let stream = TcpStream::connect(address).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .ok()?;
    stream
        .set_write_timeout(Some(Duration::from_secs(20)))
        .ok()?;
    Some(stream)
}

/// All that comes until the server closes.
pub fn answer(mut stream: TcpStream) -> Option<Reply> {
    let mut answer = Vec::new();
    // A server that refused what it had not read may reset the connection behind its answer.
    let _ = stream.read_to_end(&mut answer);
    Reply::read(&answer)
}
