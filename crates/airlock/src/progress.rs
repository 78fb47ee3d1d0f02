//! How progress is shown: as a bar on a terminal, as a line now and then elsewhere, as JSON lines for scripts.
//! Always on stderr.

use std::io::{IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use airlock_engine::progress::{Progress, Tick, Unit, Watch};

use crate::cli::Habits;
use crate::output::bytes;

/// How often a task is mentioned where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// The same for scripts.
const JSON_EVERY: Duration = Duration::from_secs(1);
/// What takes less long than this is not mentioned at all.
const SHORT: Duration = Duration::from_millis(500);
/// Cells of the bar.
const BAR_CELLS: u64 = 24;

/// How the command line wants progress shown.
pub fn progress(habits: Habits) -> Progress {
    if habits.quiet {
        Progress::default()
    } else if habits.json {
        Progress::to(Lines {
            every: JSON_EVERY,
            always: habits.verbose,
            said: Mutex::new(None),
            line: json_line,
        })
    } else if habits.verbose {
        Progress::to(Lines { every: LINE_EVERY, always: true, said: Mutex::new(None), line: text_line })
    } else if std::io::stderr().is_terminal() {
        Progress::to(Bar)
    } else {
        Progress::to(Lines { every: LINE_EVERY, always: false, said: Mutex::new(None), line: text_line })
    }
}

/// One line on a terminal that is written over and over.
struct Bar;

impl Watch for Bar {
    fn tick(&self, tick: &Tick<'_>) {
        if tick.elapsed < SHORT {
            return;
        }
        let bar = tick.total.filter(|t| *t > 0).map(|total| {
            let cells = usize::try_from(tick.done.min(total) * BAR_CELLS / total).unwrap_or(0);
            format!("[{}{}] ", "=".repeat(cells), " ".repeat(usize::try_from(BAR_CELLS).unwrap_or(0) - cells))
        });
        let line = if tick.is_over {
            String::new()
        } else {
            format!("{}{}", bar.unwrap_or_default(), text_line(tick))
        };
        let mut stderr = std::io::stderr().lock();
        // Carriage return, and the rest of the line cleared.
        let _ = write!(stderr, "\r\x1b[K{line}").and_then(|()| stderr.flush());
    }
}

/// A line now and then.
struct Lines {
    every: Duration,
    /// Whether each task is mentioned when it is over, however short it was.
    always: bool,
    said: Mutex<Option<Instant>>,
    line: fn(&Tick<'_>) -> String,
}

impl Watch for Lines {
    fn tick(&self, tick: &Tick<'_>) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let due = if tick.is_over {
            self.always || tick.elapsed >= self.every
        } else {
            tick.elapsed >= self.every && said.is_none_or(|at| at.elapsed() >= self.every)
        };
        if due {
            *said = Some(Instant::now());
            eprintln!("{}", (self.line)(tick));
        }
    }
}

fn amount(n: u64, unit: Unit) -> String {
    match unit {
        Unit::Bytes => bytes(n),
        other => format!("{n} {}", other.word()),
    }
}

fn text_line(tick: &Tick<'_>) -> String {
    let of = tick.total.map(|total| format!(" of {}", amount(total, tick.unit))).unwrap_or_default();
    let left = match tick.left() {
        Some(left) if !tick.is_over => format!(", {} left", span(left)),
        _ => format!(" in {:.3} s", tick.elapsed.as_secs_f64()),
    };
    format!("{}: {}{of}, {}/s{left}", tick.task, amount(tick.done, tick.unit), amount(tick.rate(), tick.unit))
}

fn json_line(tick: &Tick<'_>) -> String {
    serde_json::json!({"progress": {
        "task": tick.task, "done": tick.done, "total": tick.total, "unit": tick.unit.word(),
        "per_second": tick.rate(), "seconds_left": tick.left().map(|l| l.as_secs()), "over": tick.is_over,
    }})
    .to_string()
}

fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_says_how_much_how_fast_and_how_long_still() {
        let tick = Tick {
            task: "fetching main",
            done: 2_000_000,
            total: Some(10_000_000),
            unit: Unit::Bytes,
            elapsed: Duration::from_secs(2),
            is_over: false,
        };
        assert_eq!(text_line(&tick), "fetching main: 2.0 MB of 10.0 MB, 1.0 MB/s, 8 s left");
        let json: serde_json::Value = serde_json::from_str(&json_line(&tick)).unwrap();
        assert_eq!(json["progress"]["seconds_left"], 8);
    }
}
