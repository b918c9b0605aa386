// SPDX-License-Identifier: MIT OR Apache-2.0
//! A running QEMU: its console line by line, its end, and its log.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::Machine;
use crate::boards::model::surroundings;
use crate::installed::find;
use crate::paths;
use anyhow::{Context, Result, bail};

/// How long a run may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From start to end.
    pub total: Duration,
    /// Without a line on the console.
    pub silence: Duration,
}

impl Default for Limits {
    /// Generous: the host may be busy with other things.
    fn default() -> Self {
        Self { total: Duration::from_secs(300), silence: Duration::from_secs(90) }
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// QEMU ended by itself, with this status (none: by a signal).
    Exited(Option<i32>),
    /// The machine has no power-off: the hypervisor said that all was over, and was stopped.
    Parked,
    /// It was stopped on purpose.
    Stopped,
    /// Nothing was said for [`Limits::silence`].
    Silent,
    /// [`Limits::total`] was over.
    TimedOut,
}

/// How the hypervisor's last line begins on a machine that nothing turns off.
const PARKED: &str = "[hyp] parked: ";

/// What is left of a QEMU that ended.
#[derive(Debug, Clone)]
pub struct Run {
    /// The console's lines, without line ends; QEMU's own messages begin with `qemu: `.
    pub lines: Vec<String>,
    /// How it ended.
    pub ended: Ended,
    /// How long it took.
    pub took: Duration,
    /// The whole console.
    pub log: PathBuf,
}

/// What a reading thread has got.
#[derive(Debug)]
enum Event {
    /// A whole line.
    Line(String),
    /// The line so far.
    Begun(String),
}

/// A running QEMU.
#[derive(Debug)]
pub struct Session {
    child: Child,
    stdin: Option<ChildStdin>,
    events: Receiver<Event>,
    lines: Vec<String>,
    /// What the console has said of a line that has not ended yet.
    begun: String,
    /// Lines before this one have been seen by [`Self::wait_for`].
    seen: usize,
    started: Instant,
    limits: Limits,
    ended: Option<Ended>,
    /// Whether it ends by a line instead of a power-off.
    parks: bool,
    log: PathBuf,
}

/// A folder in which each run logs the blocks of low RAM that it translates: which lines of the image ran.
pub const IN_ASM: &str = "PORTCULLIS_IN_ASM";

fn in_asm(name: &str) -> Vec<OsString> {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let Some(folder) = std::env::var_os(IN_ASM) else { return Vec::new() };
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    let name = name.replace(['/', ':'], "-");
    let file = PathBuf::from(folder).join(format!("{name}-{run}.log"));
    let mut arguments: Vec<OsString> =
        ["-d", "in_asm", "-dfilter", "0x40000000+0x800000", "-D"].map(Into::into).into();
    arguments.push(file.into());
    arguments
}

impl Session {
    /// Starts `machine`; its log is `target/qemu-logs/NAME.log`.
    ///
    /// With `echo`, the console is also copied to standard output as it comes, and standard input is QEMU's.
    ///
    /// # Errors
    ///
    /// QEMU is missing or cannot be started, or the machine's files are missing.
    pub fn start(machine: &Machine, name: &str, limits: Limits, echo: bool) -> Result<Self> {
        let qemu = machine.program()?;
        let mut arguments = machine.arguments()?;
        arguments.extend(in_asm(name));
        let log = paths::target().join("qemu-logs").join(format!("{name}.log"));
        if let Some(folder) = log.parent() {
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        let mut file = File::create(&log).with_context(|| log.display().to_string())?;
        writeln!(file, "{}", shell(&qemu.clone().into(), &arguments))
            .with_context(|| log.display().to_string())?;

        // On a terminal QEMU must get the chance to leave it as it was.
        let mut command = dying_with_us(qemu.clone(), if echo { "TERM" } else { "KILL" });
        let stdin = if echo { Stdio::inherit() } else { Stdio::piped() };
        if let Some((_, modules)) = surroundings(&qemu) {
            command.env("QEMU_MODULE_DIR", modules);
        }
        let mut child = command
            .args(&arguments)
            // Some boards have a sound card.
            .env("QEMU_AUDIO_DRV", "none")
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start QEMU")?;

        let (sender, events) = channel();
        let file = Arc::new(Mutex::new(file));
        if let Some(stderr) = child.stderr.take() {
            read(stderr, "qemu: ", sender.clone(), Arc::clone(&file), false);
        }
        if let Some(stdout) = child.stdout.take() {
            read(stdout, "", sender, file, echo);
        }
        let stdin = child.stdin.take();
        let started = Instant::now();
        Ok(Self {
            child,
            stdin,
            events,
            lines: Vec::new(),
            begun: String::new(),
            seen: 0,
            started,
            limits,
            ended: None,
            parks: machine.board.is_some_and(|board| board.parks),
            log,
        })
    }

    /// The next line, or `None` when the run has ended: see [`Self::ended`].
    pub fn next_line(&mut self) -> Option<&str> {
        let before = self.lines.len();
        while self.lines.len() == before {
            if !self.next_event() {
                return None;
            }
        }
        self.lines.last().map(String::as_str)
    }

    /// Waits for more of the console; `false` when the run has ended.
    fn next_event(&mut self) -> bool {
        if self.ended.is_some() {
            return false;
        }
        let left = self.limits.total.saturating_sub(self.started.elapsed());
        match self.events.recv_timeout(left.min(self.limits.silence)) {
            Ok(Event::Line(line)) => {
                self.begun.clear();
                let parked = self.parks && line.starts_with(PARKED);
                self.lines.push(line);
                if parked {
                    self.kill();
                    self.ended = Some(Ended::Parked);
                }
                return true;
            }
            Ok(Event::Begun(text)) => {
                self.begun = text;
                return true;
            }
            // Both pipes are closed: QEMU has ended or is about to.
            Err(RecvTimeoutError::Disconnected) => {
                let status = self.child.wait().ok().and_then(|status| status.code());
                self.ended = Some(Ended::Exited(status));
            }
            Err(RecvTimeoutError::Timeout) => {
                self.kill();
                let over = self.started.elapsed() >= self.limits.total;
                self.ended = Some(if over { Ended::TimedOut } else { Ended::Silent });
            }
        }
        false
    }

    /// Reads on until a line contains `text`, and returns it. Lines that earlier calls have passed do not
    /// count.
    ///
    /// # Errors
    ///
    /// The run ends before.
    pub fn wait_for(&mut self, text: &str) -> Result<String> {
        loop {
            while let Some(line) = self.lines.get(self.seen) {
                self.seen += 1;
                if line.contains(text) {
                    return Ok(line.clone());
                }
            }
            if self.next_line().is_none() {
                bail!("no line with `{text}`: {}", self.tail());
            }
        }
    }

    /// Reads on until the line that the console has begun ends with `prompt`. Typing makes it forget what had begun.
    ///
    /// # Errors
    ///
    /// The run ends before.
    pub fn wait_for_prompt(&mut self, prompt: &str) -> Result<()> {
        while !self.begun.ends_with(prompt) {
            if !self.next_event() {
                bail!("no prompt `{prompt}`: {}", self.tail());
            }
        }
        Ok(())
    }

    /// Types `text` at the console.
    ///
    /// # Errors
    ///
    /// QEMU is gone, or its input is not ours.
    pub fn send(&mut self, text: &str) -> Result<()> {
        self.begun.clear();
        let stdin = self.stdin.as_mut().context("QEMU's input is not ours")?;
        stdin
            .write_all(text.as_bytes())
            .and_then(|()| stdin.flush())
            .context("cannot type at QEMU's console")
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn ended(&self) -> Option<Ended> {
        self.ended
    }

    /// The lines so far.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Reads to QEMU's end.
    #[must_use]
    pub fn finish(mut self) -> Run {
        while self.next_line().is_some() {}
        self.into_run()
    }

    /// Reads on for `time`, then ends QEMU: for machines that park and have nothing more to say.
    #[must_use]
    pub fn stop_after(mut self, time: Duration) -> Run {
        self.limits = Limits { total: self.started.elapsed() + time, silence: time };
        while self.next_line().is_some() {}
        if matches!(self.ended, Some(Ended::Silent | Ended::TimedOut)) {
            self.ended = Some(Ended::Stopped);
        }
        self.into_run()
    }

    fn into_run(mut self) -> Run {
        Run {
            lines: std::mem::take(&mut self.lines),
            ended: self.ended.unwrap_or(Ended::Stopped),
            took: self.started.elapsed(),
            log: self.log.clone(),
        }
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // What QEMU had said is still in the pipes.
        while let Ok(event) = self.events.recv_timeout(Duration::from_secs(1)) {
            if let Event::Line(line) = event {
                self.lines.push(line);
            }
        }
    }

    fn tail(&self) -> String {
        tail(&self.lines, self.ended, &self.log)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Run {
    /// The lines that contain `text`.
    pub fn with<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'a str> {
        self.lines.iter().map(String::as_str).filter(move |line| line.contains(text))
    }

    /// The run's end and last lines, for messages.
    #[must_use]
    pub fn tail(&self) -> String {
        tail(&self.lines, Some(self.ended), &self.log)
    }
}

fn tail(lines: &[String], ended: Option<Ended>, log: &std::path::Path) -> String {
    let how = match ended {
        None => "QEMU still runs".to_owned(),
        Some(Ended::Exited(Some(status))) => format!("QEMU ended with status {status}"),
        Some(Ended::Exited(None)) => "QEMU was killed".to_owned(),
        Some(Ended::Parked) => "the machine was parked".to_owned(),
        Some(Ended::Stopped) => "QEMU was stopped".to_owned(),
        Some(Ended::Silent) => "nothing was said for too long".to_owned(),
        Some(Ended::TimedOut) => "the time was over".to_owned(),
    };
    let last = lines.get(lines.len().saturating_sub(12)..).unwrap_or_default();
    format!("{how}; {} holds it all, the last lines:\n  {}", log.display(), last.join("\n  "))
}

/// `qemu` as a command whose process gets `signal` from the kernel when the thread that started it is gone,
/// however that came about. util-linux' setpriv does it without unsafe code here.
fn dying_with_us(qemu: PathBuf, signal: &str) -> Command {
    match find("setpriv") {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", signal, "--"]).arg(qemu);
            command
        }
        None => Command::new(qemu),
    }
}

/// Sends `stream`'s lines, each behind `prefix`, and logs them, in a thread of its own.
fn read(
    mut stream: impl Read + Send + 'static,
    prefix: &'static str,
    sender: Sender<Event>,
    log: Arc<Mutex<File>>,
    echo: bool,
) {
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        let mut line = Vec::new();
        let finish = |line: &mut Vec<u8>| {
            while line.last() == Some(&b'\r') {
                line.pop();
            }
            let text = format!("{prefix}{}", String::from_utf8_lossy(line));
            line.clear();
            let _ = writeln!(log.lock().unwrap_or_else(PoisonError::into_inner), "{text}");
            // The other side may have lost interest; the log has not.
            let _ = sender.send(Event::Line(text));
        };
        while let Ok(count) = stream.read(&mut buffer) {
            let bytes = buffer.get(..count).unwrap_or_default();
            if bytes.is_empty() {
                break;
            }
            if echo {
                let mut out = std::io::stdout().lock();
                let _ = out.write_all(bytes).and_then(|()| out.flush());
            }
            for byte in bytes {
                if *byte == b'\n' {
                    finish(&mut line);
                } else {
                    line.push(*byte);
                }
            }
            if !line.is_empty() {
                let text = format!("{prefix}{}", String::from_utf8_lossy(&line));
                let _ = sender.send(Event::Begun(text));
            }
        }
        if !line.is_empty() {
            finish(&mut line);
        }
    });
}

/// The command as a shell would take it.
fn shell(program: &OsString, arguments: &[OsString]) -> String {
    let quote = |word: &OsString| {
        let word = word.to_string_lossy();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=,./:".contains(&byte);
        if !word.is_empty() && word.bytes().all(plain) {
            word.into_owned()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    std::iter::once(program).chain(arguments).map(quote).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A session over `sh -c SCRIPT` instead of QEMU.
    fn session(script: &str, limits: Limits) -> Session {
        let mut child = dying_with_us("/bin/sh".into(), "KILL")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, events) = channel();
        let log = Arc::new(Mutex::new(tempfile()));
        read(child.stdout.take().unwrap(), "", sender, log, false);
        Session {
            stdin: child.stdin.take(),
            child,
            events,
            lines: Vec::new(),
            begun: String::new(),
            seen: 0,
            started: Instant::now(),
            limits,
            ended: None,
            parks: false,
            log: "LOG".into(),
        }
    }

    fn tempfile() -> File {
        File::create("/dev/null").unwrap()
    }

    fn alive(pid: u32) -> bool {
        std::path::Path::new(&format!("/proc/{pid}")).exists()
    }

    #[test]
    fn lines_come_without_their_ends_and_an_unfinished_one_too() {
        let run = session("printf 'a\\r\\nb\\nc'; exit 3", Limits::default()).finish();
        assert_eq!(run.lines, ["a", "b", "c"]);
        assert_eq!(run.ended, Ended::Exited(Some(3)));
    }

    #[test]
    fn silence_ends_it_and_keeps_what_was_said() {
        let limits = Limits { silence: Duration::from_millis(300), ..Limits::default() };
        let run = session("echo before; exec sleep 1000", limits).finish();
        assert_eq!(run.lines, ["before"]);
        assert_eq!(run.ended, Ended::Silent);
    }

    #[test]
    fn the_total_time_ends_one_that_never_stops_talking() {
        let limits = Limits { total: Duration::from_millis(300), ..Limits::default() };
        let run = session("while :; do echo x; sleep 0.05; done", limits).finish();
        assert_eq!(run.ended, Ended::TimedOut);
        assert!(run.lines.len() > 1);
    }

    #[test]
    fn waiting_finds_each_line_once_and_says_so_when_there_is_no_more() {
        let mut session = session("echo one; echo two; echo one", Limits::default());
        assert_eq!(session.wait_for("two").unwrap(), "two");
        assert_eq!(session.wait_for("one").unwrap(), "one");
        let error = session.wait_for("one").unwrap_err().to_string();
        assert!(error.contains("no line with `one`") && error.contains("status 0"), "{error}");
    }

    #[test]
    fn input_is_typed() {
        let mut session = session("read word; echo got $word", Limits::default());
        session.send("hello\n").unwrap();
        assert_eq!(session.wait_for("got").unwrap(), "got hello");
    }

    #[test]
    fn a_prompt_is_no_line_and_each_one_is_waited_for() {
        let script = "printf '> '; read a; echo $a; printf '> '; read b; echo $b; printf 'no more'";
        let mut session = session(script, Limits::default());
        session.wait_for_prompt("> ").unwrap();
        session.send("one\n").unwrap();
        session.wait_for_prompt("> ").unwrap();
        assert_eq!(session.lines(), ["> one"]);
        session.send("two\n").unwrap();
        assert_eq!(session.wait_for("two").unwrap(), "> two");
        assert!(session.wait_for_prompt("> ").unwrap_err().to_string().contains("no prompt"));
    }

    #[test]
    fn dropping_a_session_ends_its_process() {
        let session = session("exec sleep 1000", Limits::default());
        let pid = session.child.id();
        assert!(alive(pid));
        drop(session);
        assert!(!alive(pid));
    }

    #[test]
    fn the_process_ends_with_the_thread_that_started_it() {
        let pid = thread::spawn(|| {
            let mut session = session("echo up; exec sleep 1000", Limits::default());
            session.wait_for("up").unwrap();
            let pid = session.child.id();
            std::mem::forget(session);
            pid
        })
        .join()
        .unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        // It stays as a zombie, as no process waits for it.
        while fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| !stat.contains(") Z"))
        {
            assert!(Instant::now() < until, "{pid} lives on");
            thread::sleep(Duration::from_millis(20));
        }
    }

    #[test]
    fn a_logged_command_can_be_pasted() {
        let line = shell(&"qemu".into(), &["-append".into(), "a b='c'".into(), "-m".into()]);
        assert_eq!(line, r"qemu -append 'a b='\''c'\''' -m");
    }
}
