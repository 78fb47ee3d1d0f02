//! `export`, `verify`, `import`, `trust`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use airlock_core::bundle::{self, Base};
use airlock_engine::bundle::export::{self, What};
use airlock_engine::bundle::{self as bundle_engine, import, receipt, verify};
use airlock_engine::error::{Error, Result};
use airlock_engine::evidence;
use airlock_engine::station::Station;
use airlock_engine::{keys, trust};

use super::{Cx, judging};
use crate::cli::{AcceptArg, TrustCommand};
use crate::output::{bytes, count, table};

/// What a receipt says that the receiver has already.
fn base(station: &Station, receipt_file: Option<&Path>, to: Option<&str>) -> Result<Option<Base>> {
    match receipt_file {
        Some(path) => {
            let receipt = receipt::read(path)?;
            let stream = export::stream_of(station, to);
            if receipt.stream != stream {
                return Err(Error::usage(format!(
                    "the receipt is for stream `{}`, this export is of `{stream}`",
                    receipt.stream
                ))
                .hint("give the same --to as for the bundle that the receipt answers"));
            }
            Ok(Some(receipt.last))
        }
        None => Ok(None),
    }
}

pub async fn export(
    cx: &Cx,
    dir: &Path,
    channels: Vec<String>,
    to: Option<String>,
    receipt_file: Option<PathBuf>,
    plan: bool,
) -> Result<ExitCode> {
    let station = cx.open().await?;
    let base = base(&station, receipt_file.as_deref(), to.as_deref())?;
    let report = export::export(&station, dir, &What { channels, to, base, plan, advisories: false }).await?;
    answer_export(cx, &report, plan)
}

/// Only what is known of vulnerabilities, in one file.
pub async fn export_advisories(
    cx: &Cx,
    file: &Path,
    to: Option<String>,
    receipt_file: Option<PathBuf>,
) -> Result<()> {
    let station = cx.open().await?;
    let base = base(&station, receipt_file.as_deref(), to.as_deref())?;
    let what = What { to, base, advisories: true, ..What::default() };
    let report = bundle_engine::file::export(&station, file, &what).await?;
    answer_export(cx, &report, false).map(|_| ())
}

fn answer_export(cx: &Cx, report: &export::Report, plan: bool) -> Result<ExitCode> {
    let text = || {
        let verb = if plan { "Would write" } else { "Wrote" };
        let base = report
            .base
            .map(|b| format!(", on top of bundle {b} ({} not carried again)", count(report.left_out, "file")))
            .unwrap_or_default();
        format!(
            "{verb} bundle {} of stream {}{base}: {}, {}, {}, {}.\n",
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

pub async fn verify(cx: &Cx, dir: &Path, key: Option<PathBuf>, header: bool) -> Result<ExitCode> {
    let is_evidence = evidence::is_evidence(dir);
    let keys: Vec<[u8; 32]> = match key {
        Some(path) => vec![keys::read_public(&path)?],
        None => {
            let station =
                cx.open().await.map_err(|e| e.hint("give the sender's public key with --key station.pub"))?;
            let trusted = trust::list(&station).await?;
            let own = is_evidence.then(|| station.key.public());
            own.into_iter()
                .chain(trusted.iter().filter_map(|t| airlock_core::hex::decode(&t.public_key)))
                .collect()
        }
    };
    if is_evidence {
        return super::evidence::verify(cx, dir, &keys, header);
    }
    let opened = verify::open(dir, &keys)?;
    if !header {
        opened.check_listing()?;
        let options = cx.options();
        opened.check_files(options.threads, &options.progress)?;
    }
    let m = &opened.manifest;
    let size: u64 = m.files.iter().map(|f| f.size).sum();
    let channels: Vec<&str> = m.channels.keys().map(String::as_str).collect();
    let json = || {
        Ok(serde_json::json!({
            "verified": !header, "stream": m.stream, "number": m.number, "manifest": opened.digest, "base": m.base,
            "predecessor": m.predecessor, "sender": m.sender, "fingerprint": bundle::fingerprint(&opened.signer),
            "recipient": m.recipient, "created": m.created, "channels": channels, "files": m.files.len(), "bytes": size,
        }))
    };
    let text = || {
        let state = if header { "Signed; files not looked at" } else { "Whole and unchanged" };
        let needs = m.base.map(|b| format!("\n  needs    bundle {}", b.number)).unwrap_or_default();
        format!(
            "{state}.\n  from     {} ({})\n  stream   {}, bundle {}{needs}\n  written  {}\n  holds    {}, {}, for {}\n",
            m.sender.name,
            bundle::fingerprint(&opened.signer),
            m.stream,
            m.number,
            m.created,
            count(m.files.len() as u64, "file"),
            bytes(size),
            channels.join(", "),
        )
    };
    cx.out.answer(json, text)?;
    Ok(ExitCode::SUCCESS)
}

pub async fn import(cx: &Cx, dirs: &[PathBuf], receipt_out: Option<PathBuf>) -> Result<ExitCode> {
    let station = cx.open().await?;
    let (mut reports, mut refused) = (Vec::new(), Vec::new());
    for dir in dirs {
        // Each folder stands for itself: one that is refused, such as an older one, does not keep out the rest.
        match bundle_engine::file::import(&station, dir).await {
            Ok(report) => {
                cx.out.say(&told(&report));
                reports.push((dir, report));
            }
            Err(e) => {
                let error = e.while_(&dir.display().to_string());
                if dirs.len() > 1 {
                    cx.out.say(&format!("{error}: not taken in"));
                }
                refused.push((dir, error));
            }
        }
    }
    if let (Some(path), Some((_, report))) = (&receipt_out, reports.last()) {
        receipt::write(&station, &report.stream, path).await?;
        cx.out.say(&format!(
            "wrote the receipt {}: give it to the sender's `export --receipt`",
            path.display()
        ));
    }
    if !reports.is_empty() {
        let outcomes: Vec<_> =
            reports.iter_mut().flat_map(|(_, r)| std::mem::take(&mut r.outcomes)).collect();
        let json = || {
            let mut json = judging::json(&outcomes)?;
            let taken = |(dir, r): &(&PathBuf, import::Report)| serde_json::json!({"folder": dir, "stream": r.stream, "number": r.number, "again": r.again, "skipped": r.skipped, "files": r.files, "bytes": r.bytes});
            json["bundles"] = reports.iter().map(taken).collect();
            let not = |(dir, e): &(&PathBuf, Error)| serde_json::json!({"folder": dir, "error": e.message, "hint": e.hint});
            json["refused"] = refused.iter().map(not).collect();
            Ok(json)
        };
        judging::tell(cx, &station, "import", &outcomes, json).await?;
    }
    let failed = refused.into_iter().map(|(_, e)| e);
    let mut failed = failed.chain(reports.into_iter().filter_map(|(_, r)| r.failed));
    failed.next().map_or(Ok(ExitCode::SUCCESS), Err)
}

/// One folder that was taken in.
fn told(report: &import::Report) -> String {
    let skipped = match report.skipped {
        0 => String::new(),
        n => format!("; {} before it never came", count(n, "bundle")),
    };
    match report.again {
        true => format!("bundle {} of {} was taken in before: nothing to do", report.number, report.stream),
        false => format!(
            "took in bundle {} of {} from {}: {}, {}{skipped}",
            report.number,
            report.stream,
            report.sender,
            count(report.files, "file"),
            bytes(report.bytes)
        ),
    }
}

pub async fn trust(cx: &Cx, command: TrustCommand) -> Result<ExitCode> {
    let station = cx.open().await?;
    match command {
        TrustCommand::Add { name, keyfile, fingerprint, stream, channels, accept } => {
            let key = keys::read_public(&keyfile)?;
            let accept = accept.into_iter().map(|AcceptArg::Loosening| trust::Accept::Loosening).collect();
            let limits = trust::Limits { stream, channels, accept };
            let added = trust::add(&station, &name, key, &fingerprint, limits).await?;
            cx.out.answer(
                || Ok(serde_json::to_value(&added)?),
                || format!("Bundles signed by `{name}` are taken from now on.\n"),
            )?;
        }
        TrustCommand::List => {
            let list = trust::list(&station).await?;
            let print = |t: &trust::Trust| {
                airlock_core::hex::decode(&t.public_key).map(|k| bundle::fingerprint(&k)).unwrap_or_default()
            };
            let rows: Vec<Vec<String>> = list
                .iter()
                .map(|t| vec![t.name.clone(), print(t), format!("since {}", t.since.date())])
                .collect();
            cx.out.answer(|| Ok(serde_json::json!({ "trusted": list })), || table(&rows))?;
        }
        TrustCommand::Revoke { name } => {
            trust::revoke(&station, &name).await?;
            cx.out.answer(
                || Ok(serde_json::json!({ "revoked": name })),
                || format!("Bundles signed by `{name}` are taken no longer.\n"),
            )?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
