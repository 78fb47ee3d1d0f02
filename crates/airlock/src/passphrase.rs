//! Passphrases: from a file, or typed on the terminal without being shown. Never from the command line, which others see.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;

use airlock_engine::error::{Error, Result};
use airlock_engine::personal::Passphrase;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

/// Longest passphrase, in bytes.
const PASSPHRASE_BYTES_MAX: u64 = 4096;

/// The passphrase of a key that is there.
pub fn of(path: Option<&Path>, key: &Path) -> Result<Passphrase> {
    match path {
        Some(path) => from_file(path),
        None => ask(&format!("Passphrase of {}: ", key.display())),
    }
}

/// A passphrase for a new key: typed twice.
pub fn new(path: Option<&Path>, key: &Path) -> Result<Passphrase> {
    let Some(path) = path else {
        let first = ask(&format!("A passphrase for {}: ", key.display()))?;
        let second = ask("Once more: ")?;
        return match *first == *second {
            true => Ok(first),
            false => Err(Error::usage("the two passphrases differ").hint("try again")),
        };
    };
    from_file(path)
}

fn from_file(path: &Path) -> Result<Passphrase> {
    let fault = |e: std::io::Error| {
        Error::usage(format!("{}: {e}", path.display()))
            .hint("give a file with the passphrase that this user may read")
    };
    first_line(File::open(path).map_err(fault)?).map_err(fault)
}

fn first_line(file: impl std::io::Read) -> std::io::Result<Passphrase> {
    let mut line = Zeroizing::new(String::new());
    BufReader::new(file.take(PASSPHRASE_BYTES_MAX)).read_line(&mut line)?;
    let kept = line.trim_end_matches(['\r', '\n']).len();
    line.truncate(kept);
    Ok(line)
}

/// A terminal that shows nothing of what is typed until it is let go of.
struct Silent<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Silent<'a> {
    fn begin(terminal: &'a File) -> std::io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(terminal, OptionalActions::Flush, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silent<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}

fn ask(question: &str) -> Result<Passphrase> {
    let fault = |e: std::io::Error| {
        Error::usage(format!("there is no terminal to ask for the passphrase: {e}"))
            .hint("give the file whose first line it is with --passphrase-file")
    };
    let mut terminal = File::options().read(true).write(true).open("/dev/tty").map_err(fault)?;
    // It is silent before it asks: what somebody types at once is not shown, and not lost.
    let line = {
        let silent = Silent::begin(&terminal).map_err(fault)?;
        (&terminal).write_all(question.as_bytes()).map_err(fault)?;
        first_line(silent.terminal)
    };
    terminal.write_all(b"\n").map_err(fault)?;
    line.map_err(fault)
}
