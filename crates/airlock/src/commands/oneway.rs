//! `send`, `receive`

use std::process::ExitCode;
use std::time::Duration;

use airlock_core::time::Span;
use airlock_engine::error::{Error, Result};
use airlock_engine::oneway::receive::{self, Counts, Dropped, Outcome, Report, Told};
use airlock_engine::oneway::send;
use serde_json::{Value, json};

use super::{Cx, inbox};
use crate::cli::{ReceiveArgs, SendArgs};
use crate::output::{Output, bytes, count, write};

/// A receive buffer below this is told of: what comes while the machine is busy is lost.
const BUFFER_BYTES_GOOD: usize = 8 << 20;
/// Lines of a missing list that are printed; the file has all.
const LINES_SHOWN: usize = 40;

pub async fn send(cx: &Cx, args: SendArgs) -> Result<ExitCode> {
    if is_http(&args.to) {
        return inbox::send(cx, args).await;
    }
    let station = cx.open().await?;
    let SendArgs { dir, to, rate, only, blind, recipient, repair, mtu } = args;
    if blind {
        return Err(Error::usage("--blind is of http://: over UDP nothing answers").hint("leave it out"));
    }
    let rate = rate.unwrap_or(send::RATE_DEFAULT);
    let wish = send::Wish { to, rate, repair, mtu, only, recipient };
    let report = send::send(&station, &dir, &wish).await?;
    let text = || {
        format!(
            "Sent {} of bundle {} of {}: {} of {} bytes in {:.1} s, {} % repair{}.\n\
             Nobody knows whether it arrived: see what `airlock receive` says on the other side.\n",
            bytes(report.bytes),
            report.number,
            report.stream,
            count(report.packets, "packet"),
            report.packet_bytes,
            report.seconds,
            report.repair_percent,
            if report.twice { ", twice" } else { "" },
        )
    };
    cx.out.answer(|| Ok(serde_json::to_value(&report)?), text)?;
    Ok(ExitCode::SUCCESS)
}

fn is_http(url: &str) -> bool {
    url.starts_with("http://") || url.starts_with("https://")
}

pub fn duration(span: Span) -> Duration {
    Duration::from_secs(u64::try_from(span.as_seconds()).unwrap_or(0))
}

pub async fn receive(cx: &Cx, args: ReceiveArgs) -> Result<ExitCode> {
    if is_http(&args.listen) {
        return inbox::receive(cx, args).await;
    }
    let station = cx.open().await?;
    let ReceiveArgs { listen, into, once, silence, quota, keep, memory, tls_cert, tls_key } = args;
    if tls_cert.is_some() || tls_key.is_some() {
        return Err(Error::usage("--tls-cert and --tls-key are of https://").hint("leave them out"));
    }
    let (silence, keep) = (Duration::from_secs(silence), duration(keep));
    let memory = memory.map_or(receive::MEMORY_DEFAULT, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let wish = receive::Wish { listen, into, once, silence, quota, keep, memory };
    let (out, is_json) = (cx.out, cx.out.is_json());
    let told = move |told: Told<'_>| match told {
        Told::Listening { address, buffer_bytes } => listening(out, address, buffer_bytes),
        Told::Sending(report, dropped) => match report.outcome {
            Outcome::UnderWay => out.say(&figures(report, dropped)),
            _ if once => {}
            _ => {
                let line =
                    if is_json { format!("{}\n", value(report, dropped)) } else { text(report, dropped) };
                // A reader that went away hears no more; what arrives is kept all the same.
                let _ = write(&line);
            }
        },
    };
    let (report, dropped) = receive::receive(&station, wish, told).await?;
    cx.out.answer(|| Ok(value(&report, dropped)), || text(&report, dropped))?;
    is_whole(report.outcome)
}

/// The end of a command that received one sending.
pub fn is_whole(outcome: Outcome) -> Result<ExitCode> {
    match outcome {
        Outcome::Complete { .. } => Ok(ExitCode::SUCCESS),
        Outcome::Refused { error } | Outcome::Broken { error } => Err(error),
        Outcome::Incomplete { list, .. } => Err(Error::fault("the bundle is not whole").hint(format!(
            "give {} to the sending side: airlock send DIR --to URL --only LIST",
            list.display()
        ))),
        Outcome::UnderWay | Outcome::Nothing => {
            Err(Error::fault("nothing came of which it could be told what it is")
                .hint("let the sender send all of it again"))
        }
    }
}

fn listening(out: Output, address: std::net::SocketAddr, buffer_bytes: usize) {
    out.say(&format!("listening at udp://{address}"));
    if buffer_bytes < BUFFER_BYTES_GOOD {
        out.say(&format!(
            "the system holds only {} for this while the machine is busy: run `sysctl -w net.core.rmem_max=67108864`, or as root",
            bytes(buffer_bytes as u64)
        ));
    }
}

/// Thousandths of all that were to come.
fn share(part: u64, of: u64) -> String {
    let thousandths = part.saturating_mul(10_000).checked_div(of).unwrap_or(0);
    format!("{}.{:02} %", thousandths / 100, thousandths % 100)
}

fn rate(report: &Report) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a figure"
    )]
    let rate = (report.arrived as f64 / report.seconds.max(0.001)) as u64;
    format!("{}/s", bytes(rate))
}

/// Rate, loss, repair, and what was dropped, in one line.
fn figures(report: &Report, dropped: Dropped) -> String {
    let Counts { received, lost, restored, blocks_repaired, blocks_short, overrun, repeated, .. } =
        report.counts;
    let mut out = format!(
        "{} of {}, {}; {}, {} lost; {} restored in {}",
        bytes(report.arrived),
        bytes(report.total),
        rate(report),
        count(received, "packet"),
        share(lost, received + lost),
        count(restored, "piece"),
        count(blocks_repaired, "block"),
    );
    for (n, what) in [
        (blocks_short, "beyond repair"),
        (overrun, "too fast for this machine"),
        (repeated, "came twice"),
        (dropped.forged, "forged"),
        (dropped.replayed, "replayed"),
        (dropped.crowded, "of too many sendings at once"),
        (dropped.strangers, "of strangers"),
    ] {
        if n > 0 {
            out += &format!("; {n} {what}");
        }
    }
    out
}

fn text(report: &Report, dropped: Dropped) -> String {
    outcome_text(&report.outcome, &figures(report, dropped))
}

pub fn outcome_text(outcome: &Outcome, figures: &str) -> String {
    match outcome {
        Outcome::Complete { stream, number, bundle, .. } => {
            format!("Bundle {number} of {stream} is whole and verified: {}\n  {figures}\n", bundle.display())
        }
        Outcome::Incomplete { stream, number, list, missing_files, missing_bytes, .. } => {
            let all = std::fs::read_to_string(list).unwrap_or_default();
            let lines: Vec<&str> = all.lines().take(LINES_SHOWN).collect();
            let more = all.lines().count().saturating_sub(LINES_SHOWN);
            let more =
                if more > 0 { format!("# and {more} more: {}\n", list.display()) } else { String::new() };
            format!(
                "# bundle {number} of {stream} is not whole: {} of {} did not come\n# {figures}\n# this list: {}\n{}\n{more}",
                bytes(*missing_bytes),
                count(*missing_files, "file"),
                list.display(),
                lines.join("\n"),
            )
        }
        Outcome::Refused { error } => format!("Refused: {}\n  {figures}\n", error.message),
        Outcome::Broken { error } => {
            let hint = error.hint.as_ref().map(|hint| format!("  {hint}\n")).unwrap_or_default();
            format!(
                "Broken off on this side: {}\n{hint}  What came is kept; what still comes is taken ten seconds later, if it can be written then. Of what had come to its end by then no list is made: let the sender send it again.\n  {figures}\n",
                error.message
            )
        }
        Outcome::Nothing => format!("Nothing came of which it could be told what it is.\n  {figures}\n"),
        Outcome::UnderWay => format!("{figures}\n"),
    }
}

fn value(report: &Report, dropped: Dropped) -> Value {
    let (arrived, total, seconds) = (report.arrived, report.total, report.seconds);
    let figures = json!({ "arrived": arrived, "total": total, "seconds": seconds, "packets": report.counts, "dropped": dropped });
    outcome_value(&report.outcome, figures)
}

/// What came of a sending, with figures, under stable keys.
pub fn outcome_value(outcome: &Outcome, mut out: Value) -> Value {
    let more = match outcome {
        Outcome::UnderWay => json!({ "outcome": "under way" }),
        Outcome::Nothing => json!({ "outcome": "nothing" }),
        Outcome::Refused { error } => {
            json!({ "outcome": "refused", "error": error.message, "hint": error.hint })
        }
        Outcome::Broken { error } => {
            json!({ "outcome": "broken", "error": error.message, "hint": error.hint })
        }
        Outcome::Complete { manifest, stream, number, bundle, bytes } => json!({
            "outcome": "complete", "manifest": manifest, "stream": stream, "number": number, "bundle": bundle, "bytes": bytes,
        }),
        Outcome::Incomplete { manifest, stream, number, list, missing_files, missing_bytes } => json!({
            "outcome": "incomplete", "manifest": manifest, "stream": stream, "number": number, "missing": list,
            "missing_files": missing_files, "missing_bytes": missing_bytes,
        }),
    };
    if let (Some(out), Value::Object(more)) = (out.as_object_mut(), more) {
        out.extend(more);
    }
    out
}
