//! A MESSAGE is on the disk before it is acknowledged: a trace of system calls shows it.

use std::process::Command;
use std::time::Duration;

use sidetone_tests::child::Process;
use sidetone_tests::{Phone, Server, until};

/// Whether a line of the trace is a sync that has ended well.
fn synced(line: &str) -> bool {
    let names = ["fsync", "fdatasync"];
    let done = line.ends_with("= 0");
    done && names
        .iter()
        .any(|n| line.contains(&format!(" {n}(")) || line.contains(&format!("<... {n} resumed")))
}

#[test]
fn a_sync_stands_between_receipt_and_answer() {
    let server = Server::with(&["ann", "bob"]);
    let mut ann = Phone::udp(&server, "ann");
    let trace = server.folder().file("trace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-s", "4096", "-e"]);
    strace
        .arg("trace=fsync,fdatasync,recvmmsg,recvmsg,recvfrom,sendmmsg,sendmsg,sendto,read,write");
    strace
        .arg("-o")
        .arg(&trace)
        .arg("-p")
        .arg(server.process().id().to_string());
    let strace = Process::start("strace", &mut strace);
    strace.expect_line(0, Duration::from_secs(10), "attached");

    let mut sent = Vec::new();
    for n in 0..10 {
        let draft = ann.draft("MESSAGE", &server.uri("bob"));
        let draft = draft.with_body("text/plain", format!("text {n}"));
        let request = ann.start(draft);
        let answer = ann
            .final_answer(&request, Duration::from_secs(10))
            .expect("an answer");
        assert!(matches!(answer.status(), Some(200 | 202)), "{answer:?}");
        sent.push(request);
    }
    drop(ann);
    let complete = || {
        let text = String::from_utf8_lossy(&std::fs::read(&trace).ok()?).into_owned();
        sent.iter()
            .all(|r| answer_at(&text, r.call_id()).is_some())
            .then_some(text)
    };
    let text = until(Duration::from_secs(10), complete).expect("the answers in the trace");
    drop(strace);
    for request in &sent {
        let branch = request.branch();
        let lines: Vec<&str> = text.lines().collect();
        let came = lines
            .iter()
            .position(|l| l.contains("MESSAGE sip:bob") && l.contains(&branch));
        let came = came.expect("the receipt in the trace");
        let went = lines
            .iter()
            .position(|l| is_answer(l) && l.contains(&branch));
        let went = went.expect("the answer in the trace");
        let between = lines[came..went].iter().filter(|l| synced(l)).count();
        assert!(
            between > 0,
            "no sync between lines {came} and {went} for {branch}"
        );
    }
}

fn is_answer(line: &str) -> bool {
    line.contains("SIP/2.0 200") || line.contains("SIP/2.0 202")
}

fn answer_at(text: &str, call_id: &str) -> Option<usize> {
    text.lines()
        .position(|l| is_answer(l) && l.contains(call_id))
}
