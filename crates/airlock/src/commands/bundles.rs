//! `export`, `verify`, `import`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use airlock_core::bundle::{self, Missing};
use airlock_core::volume::LABEL;
use airlock_engine::bundle::export::{self, What};
use airlock_engine::bundle::import::Wish;
use airlock_engine::bundle::receipt::Answer;
use airlock_engine::bundle::signing::{SignedBy, Trusted};
use airlock_engine::bundle::verify::Opened;
use airlock_engine::bundle::{
    self as bundle_engine, heard, import, parts, pull, receipt, resend, turns, volumes,
};
use airlock_engine::error::{Error, Result};
use airlock_engine::evidence;
use airlock_engine::station::Station;
use airlock_engine::trust::{self, Whom};
use airlock_engine::upstream::Location;

use super::{Cx, import_plan, judging, signing};
use crate::cli::bundles::{ExportArgs, ImportHow, Include, VerifyArgs};
use crate::output::{bytes, count};

/// Names of missing files that are told people one by one.
const NAMED_MAX: usize = 20;

/// The receipt that an export answers.
fn answered(station: &Station, receipt_file: Option<&Path>, to: Option<&str>) -> Result<Option<Answer>> {
    let Some(path) = receipt_file else { return Ok(None) };
    let answer = receipt::answer(path)?;
    let receipt = &answer.receipt;
    let stream = export::stream_of(station, to);
    if receipt.stream != stream {
        return Err(Error::usage(format!(
            "the receipt is for stream `{}`, this export is of `{stream}`",
            receipt.stream
        ))
        .hint("give the same --to as for the bundle that the receipt answers"));
    }
    Ok(Some(answer))
}

pub async fn export(cx: &Cx, args: ExportArgs) -> Result<ExitCode> {
    let ExportArgs {
        mut dirs,
        channels,
        to,
        include,
        receipt,
        full: _,
        since_last,
        capacities,
        max_file,
        volume,
        parity,
        seal,
        plan,
    } = args;
    let held = include.contains(&Include::Held);
    let station = cx.open().await?;
    let answer = answered(&station, receipt.as_deref(), to.as_deref())?;
    let (receipt, reads) = answer.map(|answer| (answer.receipt, answer.reads)).unzip();
    let (dir, further) = (dirs.remove(0), dirs);
    let (missing, base) = receipt.clone().map(|receipt| (receipt.missing, receipt.last)).unzip();
    let what = What {
        channels,
        to,
        base: base.flatten(),
        since_last,
        receipt,
        reads,
        held,
        plan,
        advisories: false,
        further,
        capacities,
        volume,
        max_file,
        parity,
        seal,
    };
    let has_receipt = missing.is_some();
    if let Some(missing) = missing.flatten() {
        return export_missing(cx, &station, &dir, &what, &missing).await;
    }
    if let Some(volume) = volume.filter(|_| what.capacities.is_empty()) {
        return export_further(cx, &station, &dir, (&what, has_receipt), volume).await;
    }
    let report = export::export(&station, &dir, &what).await?;
    if let Some(volume) = volume.filter(|_| !plan) {
        cx.out.say(&format!(
            "volume {volume} of {} is written; put in the next medium and go on with `airlock export DIR --volume N`, and the same --to",
            report.volumes.len()
        ));
    }
    let verb = match (plan, volume) {
        (true, _) => "Would write",
        (false, Some(_)) => "Began",
        (false, None) => "Wrote",
    };
    answer_export(cx, &report, verb)
}

/// Whether what a bundle holds, or how it is laid out, is asked for anew.
fn is_anew(what: &What) -> bool {
    let is_new = what.plan
        || what.held
        || what.since_last
        || what.max_file.is_some()
        || what.parity > 0
        || !what.seal.is_empty();
    is_new || !what.channels.is_empty() || !what.further.is_empty() || !what.capacities.is_empty()
}

/// Writes what a receipt misses, under the manifest that was signed for all.
async fn export_missing(
    cx: &Cx,
    station: &Station,
    dir: &Path,
    what: &What,
    missing: &Missing,
) -> Result<ExitCode> {
    if is_anew(what) || what.volume.is_some() {
        return Err(Error::usage("what a receipt misses is written again as it was, into one folder")
            .hint("give one folder, without --plan, --channel, --include, --since-last, --capacity, --max-file, --volume, --parity and --seal"));
    }
    let stream = export::stream_of(station, what.to.as_deref());
    if let Some(receipt) = &what.receipt {
        heard::hold(station, what.to.as_deref(), receipt).await?.0.iter().for_each(|told| cx.out.say(told));
    }
    let report = resend::resend(station, dir, &stream, missing).await?;
    answer_export(cx, &report, "Wrote what was missing of")
}

/// Writes a further volume of a bundle that was begun.
async fn export_further(
    cx: &Cx,
    station: &Station,
    dir: &Path,
    (what, has_receipt): (&What, bool),
    volume: u32,
) -> Result<ExitCode> {
    if is_anew(what) || has_receipt {
        return Err(Error::usage("a further volume is written as it was decided, into one folder")
            .hint("give one folder, with --volume and the same --to; or begin a bundle, with --capacity"));
    }
    let stream = export::stream_of(station, what.to.as_deref());
    let report = turns::volume_of(station, dir, &stream, volume).await?;
    answer_export(cx, &report, &format!("Wrote volume {volume} of"))
}

/// Only what is known of vulnerabilities, in one file.
pub async fn export_advisories(
    cx: &Cx,
    file: &Path,
    to: Option<String>,
    receipt_file: Option<PathBuf>,
) -> Result<()> {
    let station = cx.open().await?;
    let answer = answered(&station, receipt_file.as_deref(), to.as_deref())?;
    let (receipt, reads) = answer.map(|answer| (answer.receipt, answer.reads)).unzip();
    let base = receipt.as_ref().and_then(|receipt| receipt.last);
    let what = What { to, base, receipt, reads, advisories: true, ..What::default() };
    let report = bundle_engine::file::export(&station, file, &what).await?;
    answer_export(cx, &report, "Wrote").map(|_| ())
}

fn answer_export(cx: &Cx, report: &export::Report, verb: &str) -> Result<ExitCode> {
    let text = || {
        let base = report
            .base
            .map(|b| format!(", on top of bundle {b} ({} not carried again)", count(report.left_out, "file")))
            .unwrap_or_default();
        let volume = |v: &export::OnMedium| {
            let what = match (v.parity, v.files) {
                (true, _) => "parity".to_owned(),
                (false, files) => count(files, "file"),
            };
            let part = v.volume.map_or_else(|| "files".to_owned(), |number| format!("volume {number}"));
            let time = v.seconds.map(|seconds| format!(", about {}", duration(seconds))).unwrap_or_default();
            format!("  {part}  {}, {what}, in {}{time}\n", bytes(v.bytes), v.folder.display())
        };
        let volumes: String = report.volumes.iter().map(volume).collect();
        let media = if report.volumes.is_empty() { "on this medium" } else { "for all of them" };
        let time = |seconds: f64| format!("  about {} {media}, with reading back\n", duration(seconds));
        let time = report.seconds.map(time).unwrap_or_default();
        let heard: String = report.heard.iter().map(|what| format!("  {what}\n")).collect();
        let unread: String = report.unread.iter().map(|what| format!("  left out: {what}\n")).collect();
        let held = report.held.as_ref().map(held_text).unwrap_or_default();
        let cut = match report.cut {
            0 => String::new(),
            n => format!(" ({} of them in parts)", n),
        };
        let release =
            report.release.as_ref().map(|release| format!("It is {release}.\n")).unwrap_or_default();
        let sealed = match report.sealed.is_empty() {
            true => String::new(),
            false => format!("It is sealed: {} can open it, and nobody else.\n", report.sealed.join(" or ")),
        };
        format!(
            "{verb} bundle {} of stream {}{base}: {}{cut}, {}, {}, {}.\n{heard}{held}{unread}{volumes}{time}{sealed}{release}",
            report.number,
            report.stream,
            count(report.files, "file"),
            bytes(report.bytes),
            count(report.objects, "object"),
            match report.channels.is_empty() {
                true => "of advisories alone".to_owned(),
                false => format!("for {}", report.channels.join(", ")),
            },
        )
    };
    cx.out.answer(|| Ok(serde_json::to_value(report)?), text)?;
    Ok(ExitCode::SUCCESS)
}

/// What it carries for people on the other side to judge.
fn held_text(held: &export::HeldFiles) -> String {
    let not_here = match held.not_here {
        0 => String::new(),
        n => format!("; {} whose bytes are not here left out", count(n, "held file")),
    };
    format!(
        "  {} among them, for people on the other side to judge{not_here}\n",
        count(held.carried, "held file")
    )
}

/// Seconds as people say them.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{:.0} s", s.max(1.0)),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

/// The address of a bundle that is published, where what was named is one.
fn address(named: &Path) -> Result<Option<Location>> {
    match named.to_str().filter(|text| text.starts_with("http://") || text.starts_with("https://")) {
        Some(text) => Location::parse(text).map(Some),
        None => Ok(None),
    }
}

/// What was named, without the password or token that an address may hold.
fn shown(named: &Path) -> String {
    match address(named) {
        Ok(Some(at)) => at.shown(),
        Ok(None) => named.display().to_string(),
        Err(_) => "the address".to_owned(),
    }
}

/// Whose signature is asked for: the key or root in a file, else whatever the station trusts.
async fn trusted(cx: &Cx, key: Option<&Path>, is_evidence: bool) -> Result<Trusted> {
    Ok(match key {
        Some(path) => match signing::whom(path)? {
            Whom::Key(key) => Trusted::from(&[key]),
            Whom::Link(_) => Trusted::default(),
            Whom::Root(chain) => Trusted::from(chain),
        },
        None => {
            let station =
                cx.open().await.map_err(|e| e.hint("give the sender's public key with --key station.pub"))?;
            let own = is_evidence.then(|| station.key.public());
            Trusted::of(&trust::list(&station).await?)?.and(own)
        }
    })
}

/// By whose word a bundle counts, for people.
fn released_by(by: &SignedBy) -> String {
    let SignedBy::Root { chain, people } = by else { return String::new() };
    let (root, people, print) = (chain.newest(), people.join(", "), chain.fingerprint());
    format!("\n  released by {people}, for root {}, version {} ({print})", root.name, root.version)
}

pub async fn verify(cx: &Cx, VerifyArgs { dir, key, header }: VerifyArgs) -> Result<ExitCode> {
    let is_evidence = evidence::is_evidence(&dir);
    let trusted = trusted(cx, key.as_deref(), is_evidence).await?;
    if is_evidence {
        return super::evidence::verify(cx, &dir, trusted.keys(), header);
    }
    let Looked { opened, parts, files, size, holds_nothing } = match address(&dir)? {
        Some(at) => look_at(cx, &at, trusted, header).await?,
        None => look(cx, &dir, &trusted, header)?,
    };
    let m = &opened.manifest;
    let is_whole = files == m.files.len() as u64;
    let is_nothing = holds_nothing && !header;
    let of = match (m.volumes.len() as u64, is_whole) {
        (0, true) => String::new(),
        (0, false) => format!("\n  here     {}", parts.join(", ")),
        (volumes, _) => format!("\n  here     {}, of {}", parts.join(", "), count(volumes, "volume")),
    };
    let channels: Vec<&str> = m.channels.keys().map(String::as_str).collect();
    let released = match &opened.by {
        SignedBy::Key => None,
        SignedBy::Root { chain, people } => Some(serde_json::json!({
            "root": chain.newest().name, "version": chain.newest().version, "fingerprint": chain.fingerprint(), "by": people,
        })),
    };
    let json = || {
        Ok(serde_json::json!({
            "verified": !header && !is_nothing, "stream": m.stream, "number": m.number, "manifest": opened.digest, "base": m.base,
            "predecessor": m.predecessor, "sender": m.sender, "fingerprint": bundle::fingerprint(&opened.signer),
            "recipient": m.recipient, "created": m.created, "channels": channels, "files": m.files.len(),
            "bytes": m.files.bytes(), "released": released, "parts": parts,
            "volumes": m.volumes, "whole": is_whole, "files_here": files, "bytes_here": size, "sealed": m.sealed,
            "confined": cx.confined,
        }))
    };
    let text = || {
        let state = match (header, is_whole) {
            (true, _) => "Signed; files not looked at".to_owned(),
            (false, true) => "Whole and unchanged".to_owned(),
            (false, false) if is_nothing => {
                format!("Signed; none of its {} is here", count(m.files.len() as u64, "file"))
            }
            (false, false) => {
                format!("What is here is unchanged; it is {files} of {}", count(m.files.len() as u64, "file"))
            }
        };
        let needs = m.base.map(|b| format!("\n  needs    bundle {}", b.number)).unwrap_or_default();
        let by = released_by(&opened.by);
        format!(
            "{state}.\n  from     {} ({}){by}\n  stream   {}, bundle {}{needs}{of}\n  written  {}\n  holds    {}, {}, {}\n",
            m.sender.name,
            bundle::fingerprint(&opened.signer),
            m.stream,
            m.number,
            m.created,
            count(files, "file"),
            bytes(size),
            match &m.sealed {
                Some(sealed) => format!("sealed to {}", sealed.recipients.join(", ")),
                None => format!("for {}", channels.join(", ")),
            },
        )
    };
    cx.out.answer(json, text)?;
    match is_nothing {
        true => Err(nothing_here(&dir, m.files.len() as u64)),
        false => Ok(ExitCode::SUCCESS),
    }
}

/// Nobody signs the label: whoever takes the files away can write it, and who waits for a yes must not take this for one.
fn nothing_here(dir: &Path, files: u64) -> Error {
    let (dir, files) = (dir.display(), count(files, "file"));
    Error::no(format!("{dir} holds none of the bundle's {files}, as its {LABEL} says: no file was verified"))
        .hint("if it should hold them, somebody took them away: copy the bundle again. What only is said of them is looked at with --header")
}

pub async fn import(
    cx: &Cx,
    dirs: &[PathBuf],
    receipt_out: Option<PathBuf>,
    how: ImportHow,
) -> Result<ExitCode> {
    let station = cx.open().await?;
    let wish = Wish { plan: how.plan, back: how.reason.filter(|_| how.allow_rollback) };
    let (mut reports, mut refused) = (Vec::new(), Vec::new());
    for group in parts::grouped(dirs)? {
        let shown: Vec<String> = group.iter().map(|dir| shown(dir)).collect();
        // Each bundle stands for itself: one that is refused, such as an older one, does not keep out the rest.
        match take(&station, &group, &wish).await {
            Ok(report) => {
                cx.out.say(&told(&report));
                reports.push((shown, report));
            }
            Err(e) => {
                let error = e.while_(&shown.join(", "));
                if dirs.len() > 1 {
                    cx.out.say(&format!("{error}: not taken in"));
                }
                refused.push((shown, error));
            }
        }
    }
    if let (Some(path), Some((_, report))) = (&receipt_out, reports.last()) {
        let missing = report.taken.incomplete.as_ref().map(|incomplete| incomplete.missing.clone());
        receipt::write(&station, &report.stream, missing, path).await?;
        let page = page_of(path)?;
        cx.out.say(&format!(
            "wrote the receipt {}: give it to the sender's `export --receipt`; {} shows it, as a code to scan if it is short enough",
            path.display(),
            page.display()
        ));
    }
    if !reports.is_empty() {
        let outcomes: Vec<_> =
            reports.iter_mut().flat_map(|(_, r)| std::mem::take(&mut r.outcomes)).collect();
        let json = || {
            let mut json = judging::json(&outcomes)?;
            let taken = |(dirs, r): &(Vec<String>, import::Report)| serde_json::json!({"folder": dirs.first(), "folders": dirs, "stream": r.stream, "number": r.number, "again": r.again, "skipped": r.skipped, "forgotten": r.forgotten, "files": r.files, "bytes": r.bytes, "rebuilt": r.taken.rebuilt, "damaged": r.taken.damaged, "missing": r.taken.incomplete});
            json.set("bundles", reports.iter().map(taken).collect());
            if wish.plan {
                json.set(
                    "plan",
                    reports
                        .iter()
                        .map(|(_, r)| serde_json::to_value(&r.plan))
                        .collect::<std::result::Result<_, _>>()?,
                );
            }
            let not = |(dirs, e): &(Vec<String>, Error)| serde_json::json!({"folder": dirs.first(), "error": e.message, "hint": e.hint});
            json.set("refused", refused.iter().map(not).collect());
            json.set("confined", serde_json::to_value(cx.confined)?);
            Ok(json)
        };
        match wish.plan {
            // Nothing happened of which anybody else is to be told.
            true => cx.out.answer(json, || {
                let plans: String = reports.iter().map(|(_, report)| import_plan::text(report)).collect();
                Ok(plans + &judging::text(cx, &outcomes)?)
            })?,
            false => judging::tell(cx, &station, "import", &outcomes, json).await?,
        }
    }
    let incomplete = reports.iter().any(|(_, report)| report.taken.incomplete.is_some());
    let failed = refused.into_iter().map(|(_, e)| e);
    let mut failed = failed.chain(reports.into_iter().filter_map(|(_, r)| r.waits.or(r.failed)));
    match (failed.next(), incomplete) {
        (Some(error), _) => Err(error),
        (None, true) => Ok(ExitCode::from(1)),
        (None, false) => Ok(ExitCode::SUCCESS),
    }
}

/// Writes the page of a receipt beside it.
fn page_of(path: &Path) -> Result<PathBuf> {
    let (receipt, text) = receipt::compact(path)?;
    let mut page = path.as_os_str().to_owned();
    page.push(".html");
    let page = PathBuf::from(page);
    std::fs::write(&page, airlock_web::receipt(&receipt, &text)?).map_err(|e| {
        Error::fault(format!("{}: {e}", page.display())).hint("make room or choose another place")
    })?;
    Ok(page)
}

/// What was looked at of a bundle.
struct Looked {
    opened: Opened,
    parts: Vec<String>,
    files: u64,
    size: u64,
    /// That it claims no file at all, though the bundle has some.
    holds_nothing: bool,
}

/// Verifies the folder of a bundle, or those of its volumes.
fn look(cx: &Cx, dir: &Path, trusted: &Trusted, header: bool) -> Result<Looked> {
    let all = parts::open(&volumes::within(&[dir.to_owned()]), trusted)?;
    for part in all.iter().filter(|_| !header) {
        part.check_listing()?;
        let options = cx.options();
        part.check_files(options.threads, &options.progress)?;
    }
    let holds_nothing = parts::hold_nothing(&all);
    let ((files, size), parts) =
        (parts::covered(&all), all.iter().map(|part| part.part.to_string()).collect());
    let none = || Error::usage("there is no bundle").hint("name its folder");
    let opened = all.into_iter().next().ok_or_else(none)?;
    Ok(Looked { opened, parts, files, size, holds_nothing })
}

/// Verifies a bundle that is published.
async fn look_at(cx: &Cx, at: &Location, trusted: Trusted, header: bool) -> Result<Looked> {
    let station = cx.open().await.map_err(|e| e.hint("addresses are asked by the rules of a station"))?;
    let opened = pull::check(&station, at, trusted, header).await?;
    let m = &opened.manifest;
    let parts = match m.volumes.is_empty() {
        true => "all files",
        false => "all files, the signatures and objects of the first volume, no parity",
    };
    let size = m.files.bytes();
    Ok(Looked {
        parts: vec![parts.to_owned()],
        files: m.files.len() as u64,
        size,
        opened,
        holds_nothing: false,
    })
}

/// Takes in the parts of one bundle, or a bundle that is one file or is published.
async fn take(station: &Station, group: &[PathBuf], wish: &Wish) -> Result<import::Report> {
    if let [one] = group
        && let Some(at) = address(one)?
    {
        return pull::import_with(station, &at, wish).await;
    }
    match group {
        [one] => bundle_engine::file::import_with(station, one, wish).await,
        parts => import::import_with(station, parts, wish).await,
    }
}

/// One bundle that came.
fn told(report: &import::Report) -> String {
    let skipped = match report.skipped {
        0 => String::new(),
        n => format!("; {} before it never came", count(n, "bundle")),
    };
    let taken = &report.taken;
    let damaged = match taken.damaged.split_first() {
        None => String::new(),
        Some((first, rest)) => {
            let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            format!("; changed or damaged on their media: {}{more}", first.display())
        }
    };
    let rebuilt = match taken.rebuilt {
        0 => String::new(),
        n => format!("; {} rebuilt from parity", count(n, "file")),
    };
    let forgotten = report.forgotten.as_ref().map(|what| format!("; {what}")).unwrap_or_default();
    if let Some(incomplete) = &taken.incomplete {
        return lacking(report, incomplete) + &damaged + &rebuilt + &forgotten;
    }
    let which = format!("bundle {} of {}", report.number, report.stream);
    if report.plan.is_some() {
        return format!(
            "{which} is whole and could be taken in: nothing was changed{skipped}{damaged}{rebuilt}{forgotten}"
        );
    }
    if report.waits.is_some() {
        return format!(
            "{which} is whole, and waits for a second person{skipped}{damaged}{rebuilt}{forgotten}"
        );
    }
    match report.again {
        true => format!("{which} was taken in before: nothing to do"),
        false => format!(
            "took in {which} from {}: {}, {}{skipped}{damaged}{rebuilt}{forgotten}",
            report.sender,
            count(report.files, "file"),
            bytes(report.bytes)
        ),
    }
}

/// What did not come yet, and what brings it.
fn lacking(report: &import::Report, incomplete: &parts::Incomplete) -> String {
    let missing = &incomplete.missing;
    let volumes: Vec<String> = missing.volumes.iter().map(u32::to_string).collect();
    let of_volumes = match volumes.is_empty() {
        true => String::new(),
        false => format!("; volume {} did not come", volumes.join(", ")),
    };
    let single = match missing.files.count() {
        0 => String::new(),
        n => format!("; {} of other volumes", count(n, "file")),
    };
    let (shown, rest) = incomplete.names.split_at(incomplete.names.len().min(NAMED_MAX));
    let rest = match rest.len() as u64 + incomplete.unnamed {
        0 => String::new(),
        n => format!(" and {n} more, which --json names"),
    };
    format!(
        "bundle {} of {} is not whole yet: {} of {} missing ({}){of_volumes}{single}: {}{rest}; nothing of it counts before all is \
         here: import the other volumes, or write a receipt with --receipt-out, which makes the sender's `export --receipt` write just that",
        report.number,
        report.stream,
        count(incomplete.files, "file"),
        report.files,
        bytes(incomplete.bytes),
        shown.join(", "),
    )
}
