//! A process that is watched line by line and does not outlive its test.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How much of the output is shown when a test fails.
const SHOWN: usize = 120;

pub struct Process {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    output: Arc<Output>,
}

#[derive(Default)]
struct Output {
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

impl Output {
    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, from: impl Read) {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while matches!(from.read_until(b'\n', &mut line), Ok(n) if n > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            self.lock().push(text);
            self.more.notify_all();
        }
        self.more.notify_all();
    }
}

impl Process {
    /// Starts a command with its output captured and its input in our hand.
    pub fn start(name: &str, command: &mut Command) -> Process {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let output = Arc::new(Output::default());
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        if let (Some(stdout), Some(stderr)) = (stdout, stderr) {
            let (one, two) = (Arc::clone(&output), Arc::clone(&output));
            std::thread::spawn(move || one.read(stdout));
            std::thread::spawn(move || two.read(stderr));
        }
        let stdin = child.stdin.take();
        Process {
            name: name.to_owned(),
            child,
            stdin,
            output,
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Types a line.
    pub fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("standard input");
        let sent = writeln!(stdin, "{line}").and_then(|()| stdin.flush());
        if let Err(error) = sent {
            panic!("{} takes no input: {error}", self.name);
        }
    }

    /// Closes the standard input.
    pub fn end_of_input(&mut self) {
        self.stdin = None;
    }

    /// How many lines have come; a mark to look from.
    pub fn mark(&self) -> usize {
        self.output.lock().len()
    }

    /// Waits for a line at or after a mark that fits.
    pub fn line(
        &self,
        mark: usize,
        limit: Duration,
        fits: impl Fn(&str) -> bool,
    ) -> Option<String> {
        let end = Instant::now() + limit;
        let mut lines = self.output.lock();
        let mut next = mark;
        loop {
            if let Some(found) = lines.iter().skip(next).find(|line| fits(line)) {
                return Some(found.clone());
            }
            next = lines.len();
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let woken = self.output.more.wait_timeout(lines, left);
            lines = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// [`Process::line`] that must come.
    pub fn expect_line(&self, mark: usize, limit: Duration, what: &str) -> String {
        self.line(mark, limit, |line| line.contains(what))
            .unwrap_or_else(|| panic!("{} did not say {what:?}", self.name))
    }

    /// Sleeps until there is more output, at most as long as said.
    pub fn wait_for_output(&self, mark: usize, limit: Duration) {
        let lines = self.output.lock();
        if lines.len() <= mark {
            drop(self.output.more.wait_timeout(lines, limit));
        }
    }

    pub fn text(&self) -> String {
        self.output.lock().join("\n")
    }

    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).expect("a process id");
        let _ = kill(Pid::from_raw(id), signal);
    }

    /// The exit status, once the process has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for the end.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        crate::until(limit, || self.ended())
    }

    /// Ends the process at once and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let lines = self.output.lock();
            let skipped = lines.len().saturating_sub(SHOWN);
            eprintln!("---- {} (last {SHOWN} lines) ----", self.name);
            for line in lines.iter().skip(skipped) {
                eprintln!("{line}");
            }
            eprintln!("---- end of {} ----", self.name);
        }
    }
}
