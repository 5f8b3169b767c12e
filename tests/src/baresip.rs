//! baresip, driven over its control port (netstrings of JSON).

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::child::Process;
use crate::folder::Folder;
use crate::server::{DOMAIN, Server, secret};
use crate::{loopback, until};

const PATIENCE: Duration = Duration::from_secs(15);
/// Where packages put the modules, by architecture or not.
const MODULES: [&str; 3] = [
    "/usr/lib/baresip/modules",
    "/usr/lib/x86_64-linux-gnu/baresip/modules",
    "/usr/lib/aarch64-linux-gnu/baresip/modules",
];

pub struct Baresip {
    process: Process,
    control: TcpStream,
    buffer: Vec<u8>,
    events: VecDeque<Value>,
    answers: VecDeque<Value>,
    _folder: Folder,
}

/// What it is to load, and where.
fn config(server: &Server, ip: Ipv4Addr, control: u16, folder: &Folder, module: &str) -> String {
    let certificate = server.authority.issue(folder, "phone", DOMAIN, ip);
    let sound = folder.write("tone.wav", crate::media::tone(440.0, 8000, 60));
    std::fs::create_dir_all(folder.file("recorded")).expect("a folder");
    let modules = MODULES
        .iter()
        .find(|path| std::path::Path::new(path).is_dir());
    let modules = modules.expect("baresip's modules");
    let mut config = format!(
        "poll_method epoll\ncall_local_timeout 120\ncall_max_calls 4\n\
         sip_listen {ip}:5060\nsip_certificate {}\nsip_cafile {}\n\
         net_interface {ip}\naudio_source aufile,{}\naudio_player aubridge,x\n\
         audio_alert aufile,/dev/null\nausrc_srate 8000\nauplay_srate 8000\n\
         ausrc_channels 1\nauplay_channels 1\nrtp_ports 20000-20099\nrtp_stats yes\nrtcp_mux yes\n\
         snd_path {}\nctrl_tcp_listen {ip}:{control}\nmodule_path {modules}\n",
        certificate.both.display(),
        server.authority.file.display(),
        sound.display(),
        folder.file("recorded").display(),
    );
    for module in [
        "g711",
        "aufile",
        "aubridge",
        "sndfile",
        "srtp",
        "dtls_srtp",
        "ice",
    ] {
        config.push_str(&format!("module {module}.so\n"));
    }
    for module in ["account", "contact", "menu", "debug_cmd", "ctrl_tcp"] {
        config.push_str(&format!("module_app {module}.so\n"));
    }
    if !module.is_empty() {
        config.push_str(&format!("module_app {module}.so\n"));
    }
    config
}

/// COMPAT(baresip 1.0): one start in five, its lamp subscribes again and again and hears nothing any more.
fn spins(process: &Process) -> bool {
    const SUBSCRIBES: &str = "mwi: subscribing";
    let told = |line: &str| line.contains("Messages-Waiting");
    let spins = until(PATIENCE, || {
        let text = process.text();
        let again = text.matches(SUBSCRIBES).count() > 2;
        (again || text.lines().any(told)).then_some(again)
    });
    spins.expect("baresip's lamp subscribes")
}

impl Baresip {
    /// A phone of a user, by UDP, that answers calls by itself and writes to one peer.
    pub fn start(server: &Server, user: &str, peer: &str) -> Baresip {
        Self::launch(server, user, peer, "")
    }

    /// The same with DTLS-SRTP and ICE, as browsers need it.
    pub fn with_dtls(server: &Server, user: &str, peer: &str) -> Baresip {
        Self::launch(server, user, peer, ";mediaenc=dtls_srtp;medianat=ice")
    }

    /// One that shows whether its peer is there, and publishes that it is itself. Never with the lamp: together the
    /// two modules spin.
    pub fn with_presence(server: &Server, user: &str, peer: &str) -> Baresip {
        Self::with_module(
            server,
            user,
            peer,
            ("presence", ";pubint=60"),
            ";presence=p2p",
        )
    }

    /// One that shows whether messages wait.
    pub fn with_lamp(server: &Server, user: &str, peer: &str) -> Baresip {
        Self::with_module(server, user, peer, ("mwi", ";mwi=yes"), "")
    }

    fn launch(server: &Server, user: &str, peer: &str, media: &str) -> Baresip {
        Self::with_module(server, user, peer, ("", media), "")
    }

    fn with_module(
        server: &Server,
        user: &str,
        peer: &str,
        (module, account): (&str, &str),
        contact: &str,
    ) -> Baresip {
        let folder = Folder::new("baresip");
        let ip = loopback::address();
        let control = loopback::port(ip);
        let config = config(server, ip, control, &folder, module);
        let account = format!(
            "<sip:{user}@{DOMAIN}>;auth_user={user};auth_pass={};\
             outbound=\"sip:{}:5060;transport=udp\";regint=300;answermode=auto{account}\n",
            secret(user),
            server.ip,
        );
        folder.write("config", config);
        folder.write("accounts", account);
        folder.write(
            "contacts",
            format!("\"peer\" <sip:{peer}@{DOMAIN}>{contact}\n"),
        );
        let start = || {
            let mut command = Command::new("baresip");
            command.arg("-4").arg("-s").arg("-f").arg(folder.path());
            Process::start("baresip", &mut command)
        };
        let mut process = start();
        while module == "mwi" && spins(&process) {
            process.kill();
            process = start();
        }
        let control = until(PATIENCE, || {
            assert!(
                process.ended().is_none(),
                "baresip ended: {}",
                process.text()
            );
            TcpStream::connect((ip, control)).ok()
        });
        let control = control.expect("baresip's control port");
        Baresip {
            process,
            control,
            buffer: Vec::new(),
            events: VecDeque::new(),
            answers: VecDeque::new(),
            _folder: folder,
        }
    }

    /// Waits until it is registered. The event may have passed before we were
    /// connected, so the state is asked for.
    pub fn registered(&mut self) {
        let done = until(PATIENCE, || {
            let state = self.command("reginfo", "").to_string();
            state.contains("OK").then_some(())
        });
        assert!(done.is_some(), "baresip is not registered");
    }

    /// Runs a command; gives the answer.
    pub fn command(&mut self, command: &str, parameters: &str) -> Value {
        let body = json!({ "command": command, "params": parameters, "token": "t" }).to_string();
        let netstring = format!("{}:{body},", body.len());
        self.control
            .write_all(netstring.as_bytes())
            .expect("baresip listens");
        let end = Instant::now() + PATIENCE;
        while self.answers.is_empty() && Instant::now() < end {
            self.read(end);
        }
        self.answers.pop_front().expect("baresip answers")
    }

    /// The next event of a type whose text holds something; earlier ones are dropped.
    pub fn event(&mut self, kind: &str, holds: &str) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            while let Some(event) = self.events.pop_front() {
                if event["type"] == kind && event.to_string().contains(holds) {
                    return event;
                }
            }
            assert!(Instant::now() < end, "no {kind} from baresip");
            self.read(end);
        }
    }

    pub fn call(&mut self, uri: &str) {
        let answer = self.command("dial", uri);
        assert_eq!(answer["ok"], true, "{answer}");
    }

    pub fn hang_up(&mut self) {
        self.command("hangup", "");
    }

    /// Sends a text to the peer.
    pub fn message(&mut self, text: &str) {
        self.command("contact_next", "");
        self.command("message", text);
    }

    /// Waits until a text has come in.
    pub fn received(&mut self, text: &str) {
        let line = self.process.line(0, PATIENCE, |line| line.contains(text));
        assert!(line.is_some(), "baresip did not show {text:?}");
    }

    pub fn quit(mut self) {
        let body = json!({ "command": "quit" }).to_string();
        let _ = self
            .control
            .write_all(format!("{}:{body},", body.len()).as_bytes());
        assert!(
            self.process.wait(PATIENCE).is_some(),
            "baresip does not quit"
        );
    }

    fn read(&mut self, end: Instant) {
        let left = end
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(1));
        self.control
            .set_read_timeout(Some(left))
            .expect("a timeout");
        let mut chunk = [0; 16_384];
        let n = self.control.read(&mut chunk).unwrap_or(0);
        self.buffer.extend_from_slice(&chunk[..n]);
        while let Some(value) = self.netstring() {
            let queue = if value["event"] == true {
                &mut self.events
            } else {
                &mut self.answers
            };
            queue.push_back(value);
        }
    }

    fn netstring(&mut self) -> Option<Value> {
        let colon = self.buffer.iter().position(|b| *b == b':')?;
        let length: usize = std::str::from_utf8(&self.buffer[..colon])
            .ok()?
            .parse()
            .ok()?;
        let whole = colon + 1 + length + 1;
        if self.buffer.len() < whole {
            return None;
        }
        let bytes: Vec<u8> = self.buffer.drain(..whole).collect();
        serde_json::from_slice(&bytes[colon + 1..whole - 1]).ok()
    }
}
