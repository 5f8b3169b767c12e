//! linphonec, driven over its standard input.

use std::process::Command;
use std::time::Duration;

use crate::child::Process;
use crate::folder::Folder;
use crate::server::{DOMAIN, Server, secret};

const PATIENCE: Duration = Duration::from_secs(15);

pub struct Linphone {
    process: Process,
    folder: Folder,
}

impl Linphone {
    /// A phone of a user, by `udp`, `tcp` or `tls`; TLS trusts the test's authority only.
    pub fn start(server: &Server, user: &str, transport: &str) -> Linphone {
        Self::launch(server, user, transport, ("none", 0))
    }

    /// The same with DTLS-SRTP and ICE, as browsers need it.
    pub fn with_dtls(server: &Server, user: &str, transport: &str) -> Linphone {
        Self::launch(server, user, transport, ("dtls", 3))
    }

    fn launch(server: &Server, user: &str, transport: &str, media: (&str, u8)) -> Linphone {
        let folder = Folder::new("linphone");
        let sound = folder.write("tone.wav", crate::media::tone(600.0, 8000, 60));
        std::fs::create_dir_all(folder.file(".local/share/linphone")).expect("a folder");
        let rc = folder.write("rc", configuration(server, user, transport, media));
        let mut command = Command::new("linphonec");
        command
            .arg("-c")
            .arg(rc)
            .args(["-d", "6", "-l"])
            .arg(folder.file("log"));
        command
            .env("HOME", folder.path())
            .env("TERM", "dumb")
            .current_dir(folder.path());
        let mut process = Process::start("linphonec", &mut command);
        process.say("soundcard use files");
        process.say(&format!("play {}", sound.display()));
        process.say(&format!("record {}", folder.file("heard.wav").display()));
        Linphone { process, folder }
    }

    /// Waits until it is registered.
    pub fn registered(&mut self) {
        let mark = 0;
        for _ in 0..50 {
            self.process.say("status register");
            let wait = Duration::from_millis(300);
            if self
                .process
                .line(mark, wait, |l| l.contains("registered, identity="))
                .is_some()
            {
                return;
            }
        }
        panic!("linphonec is not registered");
    }

    /// What it has written into its log: all messages among it.
    pub fn log(&self) -> String {
        let octets = std::fs::read(self.folder.file("log")).unwrap_or_default();
        String::from_utf8_lossy(&octets).into_owned()
    }

    pub fn mark(&self) -> usize {
        self.process.mark()
    }

    /// Waits for a line that holds one of some words.
    pub fn says(&self, mark: usize, words: &[&str]) -> String {
        let line = self
            .process
            .line(mark, PATIENCE, |l| words.iter().any(|w| l.contains(w)));
        line.unwrap_or_else(|| panic!("linphonec said none of {words:?}"))
    }

    pub fn call(&mut self, uri: &str) {
        self.process.say(&format!("call {uri}"));
    }

    /// Waits for a call, then takes it.
    pub fn take_call(&mut self, mark: usize) {
        self.says(mark, &["Receiving new incoming call", "is contacting you"]);
        self.process.say("answer");
    }

    pub fn hang_up(&mut self) {
        self.process.say("terminate all");
    }

    pub fn message(&mut self, uri: &str, text: &str) {
        self.process.say(&format!("chat {uri} {text}"));
    }

    pub fn quit(mut self) {
        self.process.say("quit");
        if self.process.wait(PATIENCE).is_none() {
            self.process.kill();
        }
    }
}

fn configuration(
    server: &Server,
    user: &str,
    transport: &str,
    (encryption, firewall): (&str, u8),
) -> String {
    let ip = server.ip;
    let port = if transport == "tls" { 5061 } else { 5060 };
    let own = crate::loopback::port(std::net::Ipv4Addr::LOCALHOST);
    let (udp, tcp, tls) = match transport {
        "udp" => (own, 0, 0),
        "tcp" => (0, own, 0),
        _ => (0, 0, own),
    };
    let rtp = crate::loopback::port(std::net::Ipv4Addr::LOCALHOST);
    format!(
        "[sip]\nsip_port={udp}\nsip_tcp_port={tcp}\nsip_tls_port={tls}\n\
         bind_address=127.0.0.1\nguess_hostname=1\ndefault_proxy=0\nmedia_encryption={encryption}\n\
         root_ca={authority}\nverify_server_certs=1\nverify_server_cn=0\nuse_info=0\nlime=0\n\
         [proxy_0]\nreg_proxy=<sip:{ip}:{port};transport={transport}>\n\
         reg_route=<sip:{ip}:{port};transport={transport};lr>\n\
         reg_identity=\"{user}\" <sip:{user}@{DOMAIN}>\nreg_expires=300\nreg_sendregister=1\n\
         publish=0\ndial_escape_plus=0\n\
         [auth_info_0]\nusername={user}\npasswd={password}\nrealm={DOMAIN}\ndomain={DOMAIN}\n\
         [rtp]\naudio_rtp_port={rtp}\nrtcp_mux=1\n\
         [sound]\nechocancellation=0\nplayback_dev_id=\nlocal_ring=\n\
         [net]\nfirewall_policy={firewall}\n[video]\nenabled=0\ncapture=0\ndisplay=0\n\
         [misc]\nuuid=\n[app]\nversion_check_url_root=\n",
        authority = server.authority.file.display(),
        password = secret(user),
    )
}
