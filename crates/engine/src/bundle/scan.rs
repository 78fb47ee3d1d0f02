//! What is asked of a file before it comes in: a virus scanner, or any program.
//!
//! Files are asked about as they lie in the intake, whole and with the hash that the manifest says, and before anything of the
//! bundle counts: when nothing of it is missing any more. One answer that is no refuses the bundle.

use std::io::{BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};

use crate::confine::Needs;
use crate::error::{Error, Result};

/// How long a scanner may think about one file.
const PATIENCE: Duration = Duration::from_secs(600);
/// Bytes of a file that are handed to `clamd` at once.
const CHUNK_BYTES: usize = 256 << 10;
/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 4096;
/// Bytes of what a program says that are read at once.
const PIPE_BYTES: usize = 64 << 10;
/// How often a program is looked after: soon at first, since most files take no time.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// `[import]` of `airlock.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Importing {
    /// The socket of a `clamd`, to which every file is handed (`INSTREAM`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clamd: Option<PathBuf>,
    /// A program and its arguments, which is started for every file with the file's path as the last argument and its name in
    /// `AIRLOCK_FILE`: 0 says that the file may come in, 1 that it may not, anything else that it could not tell.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// What the importing process and the program may read, and start programs from, beyond what every import needs and where
    /// systems keep programs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reads: Vec<PathBuf>,
    /// What they may write to: the process beyond the station's own folders, the program nothing else.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub writes: Vec<PathBuf>,
    /// Where they may connect to over TCP.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
    /// Bundles that are not sealed are refused.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sealed: bool,
}

impl Importing {
    /// Whether it says nothing.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether anybody is asked.
    pub(super) fn asks(&self) -> bool {
        self.clamd.is_some() || !self.command.is_empty()
    }

    /// Asks about a file.
    ///
    /// # Errors
    ///
    /// Unsafe, if somebody says no; a fault, if somebody could not tell.
    pub(crate) fn ask(&self, path: &Path, name: &str) -> Result<()> {
        if let Some(socket) = &self.clamd {
            clamd(socket, path, name, PATIENCE)?;
        }
        match self.command.split_first() {
            Some((program, arguments)) => run((program, arguments), &self.writes, (path, name), PATIENCE),
            None => Ok(()),
        }
    }
}

fn refused(name: &str, who: &str, said: &str) -> Error {
    let said = shown(said);
    let hint = "nothing of the bundle counts; tell your security officer, and the sender. What came is kept: if it was a mistake, \
                run it again";
    Error {
        is_opinion: true,
        ..Error::unsafe_(format!("{name} may not come in: {who} says {said}")).hint(hint)
    }
}

fn silent(name: &str, who: &str, why: &str) -> Error {
    let why = shown(why);
    Error::fault(format!("{name} was not looked at: {who}: {why}")).hint(
        "nothing of the bundle counts yet; mend what `[import]` of airlock.toml names, then run it again. A program reaches what \
         `reads`, `writes` and `ports` there say, and little else",
    )
}

/// What another program says, in one line that does nothing to a terminal.
fn shown(said: &str) -> String {
    let plain = said.chars().map(|c| if c.is_control() { ' ' } else { c });
    let text: String = plain.take(200).collect();
    if text.trim().is_empty() { "nothing".to_owned() } else { format!("\"{}\"", text.trim()) }
}

/// Hands a file to `clamd`: `zINSTREAM`, then pieces with their lengths in front, then a length of 0; it answers
/// `stream: OK`, `stream: NAME FOUND`, or that something is wrong.
fn clamd(socket: &Path, path: &Path, name: &str, patience: Duration) -> Result<()> {
    let who = format!("clamd at {}", socket.display());
    let answer = exchange(socket, path, patience).map_err(|e| silent(name, &who, &e.to_string()))?;
    let answer = answer.trim_end_matches(['\0', '\n']).trim();
    match answer.strip_prefix("stream: ").unwrap_or(answer) {
        "OK" => Ok(()),
        said => match said.strip_suffix(" FOUND") {
            Some(what) => Err(refused(name, "clamd", what)),
            None => Err(silent(name, &who, said)),
        },
    }
}

/// A connection that has so long for all of a file: one that answers byte by byte does not begin anew with each.
struct Timed {
    stream: UnixStream,
    until: Instant,
}

impl Timed {
    fn left(&self) -> std::io::Result<Option<Duration>> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(buffer)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

/// A connection, within `patience`: one whose queue of callers is full takes none, and says nothing.
fn connected(socket: &Path, patience: Duration) -> std::io::Result<UnixStream> {
    let made = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // unix(7): it counts for `connect` as well.
    sockopt::set_socket_timeout(&made, sockopt::Timeout::Send, Some(patience))?;
    match rustix::net::connect(&made, &SocketAddrUnix::new(socket)?) {
        Err(rustix::io::Errno::AGAIN) => Err(ErrorKind::TimedOut.into()),
        connected => connected.map(|()| UnixStream::from(made)).map_err(Into::into),
    }
}

fn exchange(socket: &Path, path: &Path, patience: Duration) -> std::io::Result<String> {
    let mut stream = Timed { until: Instant::now() + patience, stream: connected(socket, patience)? };
    let mut sent = || -> std::io::Result<()> {
        let mut file = std::fs::File::open(path)?;
        stream.write_all(b"zINSTREAM\0")?;
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let n = file.read(&mut buffer)?;
            stream.write_all(&u32::try_from(n).unwrap_or(u32::MAX).to_be_bytes())?;
            if n == 0 {
                return Ok(());
            }
            stream.write_all(buffer.get(..n).unwrap_or_default())?;
        }
    };
    // Who has enough of it hangs up, and says why all the same.
    let sent = sent();
    let mut answer = String::new();
    let read = BufReader::new(&mut stream).take(ANSWER_BYTES_MAX).read_to_string(&mut answer);
    if answer.is_empty() { sent.and(read.map(|_| answer)) } else { Ok(answer) }
}

/// Starts a program for a file and waits for it, within `patience`. It writes to `writes` and to nothing else: not to the file, of
/// which the hash was compared before, and not to what lies beside it. What it says beyond the longest answer is read and thrown away,
/// so that no answer comes of who stopped listening; and what it leaves running keeps nobody.
fn run(
    (program, arguments): (&str, &[String]),
    writes: &[PathBuf],
    (path, name): (&Path, &str),
    patience: Duration,
) -> Result<()> {
    let mut command = Command::new(program);
    command.args(arguments).arg(path).env("AIRLOCK_FILE", name).process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    // A thread of its own, since what it gives up is gone for it.
    let spawn = || {
        Needs::write_only_to(writes).map_err(std::io::Error::other)?;
        command.spawn()
    };
    let spawned = std::thread::scope(|scope| scope.spawn(spawn).join());
    let spawned = spawned.unwrap_or_else(|_| Err(std::io::Error::other("a thread stopped")));
    let mut child = spawned.map_err(|e| silent(name, program, &e.to_string()))?;
    let (ended, said) = match watch(&mut child, patience) {
        Ok(Some(ended)) => ended,
        other => {
            // With all that it started itself.
            let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
            let _ = child.wait();
            let why = other.err().map(|e| e.to_string());
            let late = || format!("it did not answer within {} seconds", patience.as_secs());
            return Err(silent(name, program, &why.unwrap_or_else(late)));
        }
    };
    let said = String::from_utf8_lossy(&said);
    match ended.code() {
        Some(0) => Ok(()),
        Some(1) => Err(refused(name, program, &said)),
        _ => Err(silent(name, program, &format!("{ended} {said}"))),
    }
}

/// How a process ended and what it said; none where it goes on for longer than `patience`.
fn watch(child: &mut Child, patience: Duration) -> std::io::Result<Option<(ExitStatus, Vec<u8>)>> {
    let began = Instant::now();
    let mut stdout = child.stdout.take();
    if let Some(stdout) = &stdout {
        // A process that it left running may hold the other end for ever.
        fcntl_setfl(stdout, OFlags::NONBLOCK)?;
    }
    let (mut said, mut buffer, mut pause) = (Vec::new(), vec![0; PIPE_BYTES], SHORTEST_PAUSE);
    loop {
        // First: what it said before it ended is in the pipe then.
        let ended = child.try_wait()?;
        let n = match stdout.as_mut().map_or(Ok(0), |stdout| stdout.read(&mut buffer)) {
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
            read => read?,
        };
        let room = ANSWER_BYTES_MAX as usize - said.len();
        said.extend(buffer.iter().take(n.min(room)));
        match ended {
            Some(ended) if n == 0 || said.len() as u64 == ANSWER_BYTES_MAX => return Ok(Some((ended, said))),
            _ if began.elapsed() >= patience => return Ok(ended.map(|ended| (ended, said))),
            _ if n > 0 => pause = SHORTEST_PAUSE,
            _ => {
                std::thread::sleep(pause);
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::error::Kind;

    /// A `clamd` that answers each stream by what is in it, and one that ends after some bytes.
    fn daemon(socket: &Path) {
        let listener = UnixListener::bind(socket).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut word = [0; 10];
                stream.read_exact(&mut word).unwrap();
                assert_eq!(&word, b"zINSTREAM\0");
                let mut all = Vec::new();
                loop {
                    let mut length = [0; 4];
                    stream.read_exact(&mut length).unwrap();
                    let length = u32::from_be_bytes(length) as usize;
                    if length == 0 || all.len() > 1_000_000 {
                        break;
                    }
                    let at = all.len();
                    all.resize(at + length, 0);
                    stream.read_exact(&mut all[at..]).unwrap();
                }
                let answer: &[u8] = match () {
                    () if all.len() > 1_000_000 => b"INSTREAM size limit exceeded. ERROR\0",
                    () if all.windows(4).any(|w| w == b"evil") => b"stream: Test.Evil-1\x1b[2J FOUND\0",
                    () => b"stream: OK\0",
                };
                let _ = stream.write_all(answer);
            }
        });
    }

    #[test]
    fn a_scanner_is_handed_every_byte_and_what_it_says_counts() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("clamd");
        daemon(&socket);
        let asked = Importing { clamd: Some(socket), ..Importing::default() };
        let file = dir.path().join("file");
        let mut bytes = vec![1; 600_000];
        std::fs::write(&file, &bytes).unwrap();
        asked.ask(&file, "a.whl").unwrap();
        bytes.extend(b"evil");
        std::fs::write(&file, &bytes).unwrap();
        let error = asked.ask(&file, "a.whl").unwrap_err();
        assert_eq!(error.kind, Kind::Unsafe);
        assert_eq!(error.message, "a.whl may not come in: clamd says \"Test.Evil-1 [2J\"");
        // Too much for it, and nobody there: neither is a yes.
        std::fs::write(&file, vec![1; 20_000_000]).unwrap();
        let error = asked.ask(&file, "a.whl").unwrap_err();
        assert!(error.kind == Kind::Fault && error.message.contains("size limit exceeded"), "{error}");
        let gone = Importing { clamd: Some(dir.path().join("gone")), ..Importing::default() };
        assert_eq!(gone.ask(&file, "a.whl").unwrap_err().kind, Kind::Fault);
    }

    #[test]
    fn a_daemon_that_answers_byte_by_byte_has_no_more_time_than_another() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, file) = (dir.path().join("clamd"), dir.path().join("file"));
        std::fs::write(&file, "x").unwrap();
        let listener = UnixListener::bind(&socket).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            while stream.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let began = Instant::now();
        let error = clamd(&socket, &file, "a.whl", Duration::from_millis(500)).unwrap_err();
        assert!(error.kind == Kind::Fault && began.elapsed() < Duration::from_secs(60), "{error}");
    }

    #[test]
    fn a_daemon_that_takes_no_more_callers_is_not_waited_for_without_end() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, file) = (dir.path().join("clamd"), dir.path().join("file"));
        std::fs::write(&file, "x").unwrap();
        let listener = UnixListener::bind(&socket).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let _first = UnixStream::connect(&socket).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let of = socket.clone();
        std::thread::spawn(move || tell.send(clamd(&of, &file, "a.whl", Duration::from_millis(200))));
        let error = told.recv_timeout(Duration::from_secs(60)).expect("it gives up").unwrap_err();
        assert!(error.kind == Kind::Fault && error.message.contains("clamd at"), "{error}");
    }

    #[test]
    fn a_program_says_yes_no_or_that_it_cannot_tell() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let asked = |script: &str| {
            let command = ["sh", "-c", script, "sh"].map(str::to_owned).to_vec();
            Importing { command, ..Importing::default() }.ask(&file, "a.whl")
        };
        asked("test \"$AIRLOCK_FILE\" = a.whl && grep -q x \"$1\"").unwrap();
        // One that talks much is heard out, whatever it does about a reader who left.
        asked("trap '' PIPE; head -c 3000000 /dev/zero || exit 1").unwrap();
        let error = asked("head -c 3000000 /dev/zero | tr '\\0' x; exit 1").unwrap_err();
        assert!(error.is_opinion && error.message.contains("says \"xxx"), "{error}");
        let error = asked("echo not this one; exit 1").unwrap_err();
        assert!(error.kind == Kind::Unsafe && error.message.contains("not this one"), "{error}");
        assert_eq!(asked("exit 2").unwrap_err().kind, Kind::Fault);
        assert_eq!(asked("kill -9 $$").unwrap_err().kind, Kind::Fault);
        let none = Importing { command: vec!["/nowhere/scanner".to_owned()], ..Importing::default() };
        assert_eq!(none.ask(&file, "a.whl").unwrap_err().kind, Kind::Fault);
    }

    #[test]
    fn a_program_changes_neither_the_file_nor_what_lies_beside_it() {
        if !std::thread::spawn(|| Needs::write_only_to(&[]).unwrap()).join().unwrap() {
            println!("skipped: what a scanner may write, because this kernel has no Landlock");
            return;
        }
        let (dir, notes) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let file = dir.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let script = "grep -q x \"$1\" && echo > \"$0/note\" || exit 2; \
                      echo >> \"$1\" || echo > \"$1.new\" || mv \"$1\" \"$1.new\" || rm -f \"$1\" || exit 0; exit 1";
        let command = ["sh", "-c", script, notes.path().to_str().unwrap()].map(str::to_owned).to_vec();
        let asked = Importing { command, writes: vec![notes.path().to_owned()], ..Importing::default() };
        asked.ask(&file, "a.whl").unwrap();
        // What this process may is as before.
        std::fs::write(&file, "y").unwrap();
    }

    #[test]
    fn a_program_that_goes_on_for_ever_is_ended_with_all_that_it_started_and_its_file_was_not_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let (patience, began) = (Duration::from_secs(1), Instant::now());
        let asked = |script: &str| {
            let arguments = ["-c", script, "sh"].map(str::to_owned);
            run(("sh", &arguments), &[dir.path().to_owned()], (&file, "a.whl"), patience)
        };
        for script in ["sleep 600; exit 0", "exec yes", "sleep 600 & echo $! > \"$1.child\"; wait"] {
            let error = asked(script).unwrap_err();
            assert_eq!(error.kind, Kind::Fault, "{script}");
            assert!(error.message.contains("did not answer within 1 seconds"), "{error}");
        }
        let child = std::fs::read_to_string(dir.path().join("file.child")).unwrap();
        let stat = || std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
        // It dies when its turn comes, and whoever inherits it may not bury it.
        let is_gone = || stat().is_empty() || stat().contains(") Z ");
        while !is_gone() && began.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(is_gone(), "{}", stat());
        // What it left running has nothing to say.
        let began = Instant::now();
        asked("sleep 20 & exit 0").unwrap();
        assert!(began.elapsed() < Duration::from_secs(15));
    }
}
