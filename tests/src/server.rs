//! The server under test: one process, one address, one folder.
//!
//! `SIDETONE_BIN` names the binary; otherwise the newest of the workspace's
//! release and debug builds is taken.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use toml::{Table, Value};

use crate::certificate::{Authority, Files};
use crate::child::Process;
use crate::folder::Folder;
use crate::loopback;

/// The domain of every test.
pub const DOMAIN: &str = "example.test";
/// How long a server may take until it is ready.
const READY: Duration = Duration::from_secs(20);

/// What differs from the usual configuration, and who exists from the start.
pub struct Options {
    keys: Vec<(String, Value)>,
    users: Vec<String>,
    trusts: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl Options {
    pub fn new() -> Options {
        Options {
            keys: Vec::new(),
            users: Vec::new(),
            trusts: false,
        }
    }

    /// The server trusts the test's authority when it connects to others.
    #[must_use]
    pub fn trusting(mut self) -> Options {
        self.trusts = true;
        self
    }

    /// Sets a configuration key: `set("sip.max_contacts", 2)`.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Options {
        self.keys.push((key.to_owned(), value.into()));
        self
    }

    /// People with one phone each, whose SIP user is their name and whose password is [`secret`].
    #[must_use]
    pub fn users(mut self, names: &[&str]) -> Options {
        self.users
            .extend(names.iter().map(|name| (*name).to_owned()));
        self
    }

    /// Rate limits and bans count these tests too.
    #[must_use]
    pub fn limited(self) -> Options {
        self.set("limits.exempt", Value::Array(Vec::new()))
    }

    pub fn start(self) -> Server {
        Server::start(self)
    }
}

/// The SIP password of a user or a device.
pub fn secret(sip_user: &str) -> String {
    format!("secret-of-{sip_user}")
}

pub struct Server {
    pub ip: Ipv4Addr,
    pub authority: Authority,
    pub certificate: Files,
    process: Option<Process>,
    trusts: bool,
    config: PathBuf,
    folder: Folder,
}

impl Server {
    /// A server with these people and nothing else out of the ordinary.
    pub fn with(users: &[&str]) -> Server {
        Options::new().users(users).start()
    }

    pub fn start(options: Options) -> Server {
        let folder = Folder::new("server");
        let ip = loopback::address();
        let authority = Authority::new(&folder);
        let certificate = authority.issue(&folder, "server", DOMAIN, ip);
        let text = configuration(&folder, ip, &certificate, &options.keys);
        let config = folder.write("sidetone.toml", text);
        let mut server = Server {
            ip,
            authority,
            certificate,
            process: None,
            trusts: options.trusts,
            config,
            folder,
        };
        if !options.users.is_empty() {
            server.import(&options.users);
        }
        server.up();
        server
    }

    /// Starts the process and waits until it is ready; gives the time that took.
    pub fn up(&mut self) -> Duration {
        let began = Instant::now();
        let http = self.http();
        let process = self.launch();
        loop {
            if let Some(status) = process.ended() {
                panic!("the server ended with {status}");
            }
            let mark = process.mark();
            if ready(http) {
                return began.elapsed();
            }
            assert!(began.elapsed() < READY, "the server is not ready");
            process.wait_for_output(mark, Duration::from_millis(10));
        }
    }

    /// Starts the process and waits for nothing.
    pub fn launch(&mut self) -> &mut Process {
        assert!(self.process.is_none(), "the server runs already");
        let mut command = self.command(&["serve"]);
        let process = Process::start("sidetone", &mut command);
        self.process.insert(process)
    }

    /// Asks the server to end, and waits for it.
    pub fn down(&mut self) {
        let mut process = self.process.take().expect("a running server");
        process.signal(Signal::SIGTERM);
        let status = process
            .wait(Duration::from_secs(10))
            .expect("an end in time");
        assert!(status.success(), "the server ended with {status}");
    }

    /// Ends the server as a power cut would.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("a running server");
        process.kill();
    }

    pub fn process(&self) -> &Process {
        self.process.as_ref().expect("a running server")
    }

    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    pub fn udp(&self) -> SocketAddr {
        SocketAddr::from((self.ip, 5060))
    }

    pub fn tls(&self) -> SocketAddr {
        SocketAddr::from((self.ip, 5061))
    }

    pub fn https(&self) -> SocketAddr {
        SocketAddr::from((self.ip, HTTPS))
    }

    pub fn http(&self) -> SocketAddr {
        SocketAddr::from((self.ip, HTTP))
    }

    /// `sip:NAME@` and the domain.
    pub fn uri(&self, name: &str) -> String {
        format!("sip:{name}@{DOMAIN}")
    }

    /// Runs a subcommand that must succeed; gives its standard output.
    pub fn cli(&self, arguments: &[&str], input: &str) -> String {
        let output = self.try_cli(arguments, input);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "sidetone {}: {errors}",
            arguments.join(" ")
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn try_cli(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = Command::new(binary());
        command.args(arguments).arg("--config").arg(&self.config);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command line");
        let mut stdin = child.stdin.take().expect("standard input");
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        child.wait_with_output().expect("an end")
    }

    /// A person without a phone.
    pub fn add_user(&self, name: &str) {
        self.cli(&["user", "add", &format!("{name}@{DOMAIN}")], "");
    }

    /// A further phone of a person.
    pub fn add_device(&self, name: &str, sip_user: &str) {
        let address = format!("{name}@{DOMAIN}");
        let arguments = [
            "device",
            "add",
            &address,
            "--sip-user",
            sip_user,
            "--sip-password-stdin",
        ];
        self.cli(&arguments, &secret(sip_user));
    }

    fn import(&self, users: &[String]) {
        let mut csv = "address,name,profile,sip_user,sip_password\n".to_owned();
        for name in users {
            csv.push_str(&format!(
                "{name}@{DOMAIN},{name},,{name},{}\n",
                secret(name)
            ));
        }
        let file = self.folder.write("users.csv", csv);
        self.cli(&["import", "users", &file.to_string_lossy()], "");
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments).arg("--config").arg(&self.config);
        command.current_dir(self.folder.path());
        if self.trusts {
            // What rustls takes for the system's roots.
            command.env("SSL_CERT_FILE", &self.authority.file);
        }
        command
    }
}

const HTTP: u16 = 8080;
const HTTPS: u16 = 8443;

fn configuration(
    folder: &Folder,
    ip: Ipv4Addr,
    certificate: &Files,
    keys: &[(String, Value)],
) -> String {
    let listen = |port: u16| Value::Array(vec![Value::String(format!("{ip}:{port}"))]);
    let text = |path: &Path| Value::String(path.to_string_lossy().into_owned());
    let mut files = Table::new();
    files.insert("chain".to_owned(), text(&certificate.chain));
    files.insert("key".to_owned(), text(&certificate.key));
    let everyone = Value::Array(vec![Value::String("127.0.0.0/8".to_owned())]);
    let mut root = Table::new();
    for (key, value) in [
        ("domain", Value::String(DOMAIN.to_owned())),
        ("data", text(&folder.file("data"))),
        ("sip.udp", listen(5060)),
        ("sip.tcp", listen(5060)),
        ("sip.tls", listen(5061)),
        ("sip.routing", Value::String("proxy".to_owned())),
        ("https.listen", listen(HTTPS)),
        ("https.http", listen(HTTP)),
        ("https.certificate", Value::Table(files)),
        (
            "media.addresses",
            Value::Array(vec![Value::String(ip.to_string())]),
        ),
        ("limits.exempt", everyone),
        ("log.level", Value::String("debug".to_owned())),
    ] {
        insert(&mut root, key, value);
    }
    for (key, value) in keys {
        if key == "domains" {
            root.remove("domain");
        }
        insert(&mut root, key, value.clone());
    }
    toml::to_string(&root).expect("TOML")
}

fn insert(root: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => drop(root.insert(key.to_owned(), value)),
        Some((section, rest)) => {
            let empty = || Value::Table(Table::new());
            let entry = root.entry(section.to_owned()).or_insert_with(empty);
            insert(entry.as_table_mut().expect("a section"), rest, value);
        }
    }
}

fn ready(address: SocketAddr) -> bool {
    get(address, "/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// A plain GET: the head and the body as they came.
pub fn get(address: SocketAddr, path: &str) -> Option<String> {
    exchange(
        address,
        &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"),
    )
}

/// A plain POST: the head and the body as they came.
pub fn post(address: SocketAddr, path: &str, kind: &str, body: &str) -> Option<String> {
    let length = body.len();
    exchange(
        address,
        &format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
             Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}"
        ),
    )
}

fn exchange(address: SocketAddr, request: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer).into_owned())
}

/// The binary under test.
pub fn binary() -> PathBuf {
    if let Some(named) = std::env::var_os("SIDETONE_BIN") {
        return PathBuf::from(named);
    }
    let root = repository();
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    let built = ["release", "debug"].map(|profile| target.join(profile).join("sidetone"));
    let newest = built
        .iter()
        .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)));
    match newest.max() {
        Some((_, path)) => path.clone(),
        None => panic!("no binary to test: cargo build -p sidetone, or set SIDETONE_BIN"),
    }
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent()
        .map_or_else(|| here.to_path_buf(), Path::to_path_buf)
}
