//! What people and scripts see. Data goes to stdout, everything else to stderr.

use std::io::{BufWriter, Write as _};

use airlock_core::time::{Span, Time};
use airlock_core::unseen::plain;
use airlock_engine::error::{Error, Result};
use serde::Serialize;

use crate::cli::Habits;

/// How a command speaks.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    habits: Habits,
}

impl Output {
    /// As the command line says.
    pub const fn new(habits: Habits) -> Self {
        Self { habits }
    }

    /// Whether every detail is wanted.
    pub const fn is_verbose(self) -> bool {
        self.habits.verbose
    }

    /// Whether the answer is JSON.
    pub const fn is_json(self) -> bool {
        self.habits.json
    }

    /// The answer: JSON for scripts, text for people. JSON is written as it is made, since it may be long: what fails in the
    /// middle leaves a part of it, and the exit status says that it is not whole.
    pub fn answer<J: Serialize, T: Text>(
        self,
        json: impl FnOnce() -> Result<J>,
        text: impl FnOnce() -> T,
    ) -> Result<()> {
        if !self.habits.json {
            return write(&text().text()?);
        }
        let mut out = BufWriter::new(std::io::stdout().lock());
        match serde_json::to_writer(&mut out, &json()?) {
            // What was written before is no answer.
            Err(e) if !e.is_io() => Err(Error::from(e).hint("what stands on stdout is a part; run it again")),
            written => {
                let written = written.map_err(std::io::Error::from);
                told(written.and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()))
            }
        }
    }

    /// Something that is only told while working.
    pub fn say(self, text: &str) {
        if !self.habits.quiet {
            eprintln!("{}", plain_lines(text));
        }
    }
}

/// What is said to people, or why it cannot be.
pub trait Text {
    /// The text.
    fn text(self) -> Result<String>;
}

impl Text for String {
    fn text(self) -> Result<String> {
        Ok(self)
    }
}

impl Text for Result<String> {
    fn text(self) -> Result<String> {
        self
    }
}

/// Writes to stdout; a reader that went away is no error.
pub fn write(text: &str) -> Result<()> {
    told(std::io::stdout().lock().write_all(text.as_bytes()))
}

fn told(written: std::io::Result<()>) -> Result<()> {
    match written {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::fault(format!("stdout: {e}"))),
        _ => Ok(()),
    }
}

/// Text with what strangers may have chosen, as it may be shown; its lines are ours.
pub fn plain_lines(text: &str) -> String {
    text.split('\n').map(plain).collect::<Vec<_>>().join("\n")
}

/// Bytes as disks are sold: powers of a thousand.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut unit = 0;
    let mut whole = n;
    let mut rest = 0;
    while whole >= 1000 && unit + 1 < UNITS.len() {
        rest = whole % 1000;
        whole /= 1000;
        unit += 1;
    }
    if unit == 0 { format!("{n} B") } else { format!("{whole}.{} {}", rest / 100, UNITS[unit]) }
}

/// How long ago something was, in the largest unit that fits.
pub fn ago(now: Time, then: Time) -> String {
    let seconds = now.since(then).as_seconds();
    let unit = [86_400, 3_600, 60, 1].into_iter().find(|u| seconds >= *u).unwrap_or(1);
    if seconds == 0 { "just now".to_owned() } else { format!("{} ago", Span::seconds(seconds / unit * unit)) }
}

/// A number and its noun.
pub fn count(n: u64, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") }
}

/// Rows in aligned columns.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|t| t.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line += cell;
            line += &" ".repeat(width + 2 - cell.chars().count());
        }
        out += line.trim_end();
        out.push('\n');
    }
    out
}
