//! `send` and `receive` over HTTP

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use airlock_engine::error::{Error, Result};
use airlock_engine::oneway::inbox::{Arrival, Inbox, Wish};
use airlock_engine::oneway::push;
use airlock_engine::oneway::receive::Outcome;
use airlock_web::inbox::{Limits, Site};
use serde_json::{Value, json};

use super::Cx;
use super::oneway::{is_whole, outcome_text, outcome_value};
use super::serve::{interrupted, listen};
use crate::cli::{ReceiveArgs, SendArgs};
use crate::output::{bytes, count, write};

/// So long senders may ask what came of a bundle before `--once` ends.
const LAST_QUESTIONS: Duration = Duration::from_secs(2);

pub async fn send(cx: &Cx, args: SendArgs) -> Result<ExitCode> {
    let station = cx.open().await?;
    let SendArgs { dir, to, rate, only, blind, recipient, repair, mtu } = args;
    if recipient.is_some() || repair.is_some() || mtu.is_some() {
        return Err(Error::usage("--recipient, --repair and --mtu are of udp://")
            .hint("leave them out; what is sent over HTTP is repaired by asking"));
    }
    let wish = push::Wish { to, rate, only, is_blind: blind };
    let report = push::push(&station, &dir, &wish).await?;
    let text = || {
        let what = match report.outcome {
            push::Outcome::Delivered => "The receiver says that it is whole and verified.",
            push::Outcome::Incomplete => "The receiver lacks what the list did not name.",
            push::Outcome::Unknown => {
                "Nobody knows whether it arrived: see what `airlock receive` says on the other side."
            }
        };
        format!(
            "Sent {} in {} of bundle {} of {} in {:.1} s.\n{what}\n",
            bytes(report.bytes),
            count(report.files, "file"),
            report.number,
            report.stream,
            report.seconds,
        )
    };
    cx.out.answer(|| Ok(serde_json::to_value(&report)?), text)?;
    match report.outcome {
        push::Outcome::Incomplete => Err(Error::fault("the receiver does not have all of the bundle")
            .hint("send it again without --only: what is there is not sent twice")),
        push::Outcome::Delivered | push::Outcome::Unknown => Ok(ExitCode::SUCCESS),
    }
}

/// Address and path of `http(s)://ADDR:PORT/PATH`, and whether it is TLS.
fn place(text: &str) -> Result<(String, String, bool)> {
    let wrong = || {
        Error::usage(format!("`{text}` is no place to listen at"))
            .hint("give http://ADDR:PORT, https://ADDR:PORT or udp://ADDR:PORT")
    };
    let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
    let (address, path) = rest.split_once('/').unwrap_or((rest, ""));
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-/".contains(&b);
    let is_known = matches!(scheme, "http" | "https") && !address.is_empty() && !address.contains('@');
    if !is_known || !path.bytes().all(plain) {
        return Err(wrong());
    }
    let path = path.trim_end_matches('/');
    let base = if path.is_empty() { "/".to_owned() } else { format!("/{path}/") };
    Ok((address.to_owned(), base, scheme == "https"))
}

/// What is wrong with what was asked for, before anything is made for it.
pub fn check(args: &ReceiveArgs) -> Result<()> {
    if args.memory.is_some() {
        return Err(Error::usage("--memory is of udp://").hint("leave it out; over HTTP little is held"));
    }
    let (_, _, is_tls) = place(&args.listen)?;
    if is_tls != args.tls_cert.is_some() || args.tls_cert.is_some() != args.tls_key.is_some() {
        return Err(Error::usage("https:// needs --tls-cert and --tls-key, and http:// takes neither")
            .hint("give both files, or let a proxy in front speak TLS"));
    }
    Ok(())
}

/// Takes bundles by PUT; `args` were checked.
pub async fn receive(cx: &Cx, args: ReceiveArgs) -> Result<ExitCode> {
    let station = cx.open().await?;
    let ReceiveArgs { listen: at, into, once, silence, quota, keep, memory: _, tls_cert, tls_key } = args;
    let (address, base, is_tls) = place(&at)?;
    let keep = super::oneway::duration(keep);
    let wish = Wish { into, quota, keep, silence: Duration::from_secs(silence) };
    let (inbox, mut told) = Inbox::open(&station, wish).await?;
    let site = Site::new(inbox.clone(), base.clone(), Limits::default());
    let site = match tls_cert.zip(tls_key) {
        None => site,
        Some((certificate, key)) => site.with_tls(&certificate, &key)?,
    };
    let (listener, address) = listen(&address).await?;
    cx.out.say(&format!("listening at {}://{address}{base}", if is_tls { "https" } else { "http" }));
    let keeping = tokio::spawn(inbox.keep());
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let stop = async {
        tokio::select! {
            () = interrupted() => {}
            _ = ended => tokio::time::sleep(LAST_QUESTIONS).await,
        }
    };
    let receiving = tokio::spawn(airlock_web::inbox::receive(listener, Arc::new(site), stop));
    let (mut end, mut last) = (Some(end), None);
    tokio::pin!(receiving);
    loop {
        tokio::select! {
            // What was told before the end is said before it.
            biased;
            arrival = told.recv(), if end.is_some() => {
                let Some(arrival) = arrival else { break };
                // What is refused may be anybody's, and ends nothing; where this side cannot write, nothing comes of it.
                let is_end = once && !matches!(arrival.outcome, Outcome::Refused { .. } | Outcome::UnderWay);
                if is_end {
                    last = Some(arrival);
                    end.take().map(|end| end.send(()));
                } else {
                    say(cx, &arrival);
                }
            }
            _ = &mut receiving => break,
        }
    }
    keeping.abort();
    let Some(arrival) = last else {
        return match once {
            false => Ok(ExitCode::SUCCESS),
            true => Err(Error::fault("stopped before a bundle came to its end")
                .hint("what came of one is kept; start it again before the sender's next try")),
        };
    };
    cx.out.answer(|| Ok(value(&arrival)), || text(&arrival))?;
    is_whole(arrival.outcome)
}

fn say(cx: &Cx, arrival: &Arrival) {
    // A refusal can be caused by anybody, and a disk that is full fills many lines: neither is an answer.
    if let Outcome::Refused { error } | Outcome::Broken { error } = &arrival.outcome {
        let hint = error.hint.as_ref().map(|hint| format!(": {hint}")).unwrap_or_default();
        let what = if matches!(arrival.outcome, Outcome::Refused { .. }) { "refused" } else { "not written" };
        cx.out.say(&format!("{what}: {}{hint}", error.message));
        return;
    }
    let line = if cx.out.is_json() { format!("{}\n", value(arrival)) } else { text(arrival) };
    // A reader that went away hears no more; what arrives is kept all the same.
    let _ = write(&line);
}

fn figures(arrival: &Arrival) -> String {
    format!("{} of {} in {:.1} s", bytes(arrival.arrived), bytes(arrival.total), arrival.seconds)
}

fn text(arrival: &Arrival) -> String {
    outcome_text(&arrival.outcome, &figures(arrival))
}

fn value(arrival: &Arrival) -> Value {
    let Arrival { outcome, seconds, arrived, total } = arrival;
    outcome_value(outcome, json!({ "arrived": arrived, "total": total, "seconds": seconds }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_to_listen_at_has_an_address_and_perhaps_a_path() {
        let read = |text| place(text).ok();
        let place = |address: &str, base: &str, tls| Some((address.to_owned(), base.to_owned(), tls));
        assert_eq!(read("http://10.0.0.1:8440"), place("10.0.0.1:8440", "/", false));
        assert_eq!(read("https://[::1]:8440/in/box/"), place("[::1]:8440", "/in/box/", true));
        for bad in
            ["10.0.0.1:8440", "ftp://x:1", "http://", "http://a@b:1", "http://x:1/a b", "http://x:1/?a"]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
