//! `sign`, `key` and `trust`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use airlock_core::bundle::fingerprint;
use airlock_core::root::{Change, Signers, SignersChange, Tally};
use airlock_engine::bundle::signing::{Candidate, Released};
use airlock_engine::bundle::{file, volumes};
use airlock_engine::error::{Error, Result};
use airlock_engine::keys;
use airlock_engine::personal::{self, Signer};
use airlock_engine::roots::{self, Shown};
use airlock_engine::trust::{self, Trust, Whom};

use super::Cx;
use crate::cli::{AcceptArg, ChangeArgs, KeyCommand, RootCommand, SignArgs, SignerArgs, TrustCommand};
use crate::output::{bytes, count, table};
use crate::passphrase;

fn signer(args: &SignerArgs) -> Result<Signer> {
    match &args.command {
        Some(command) => {
            let public_key = keys::read_public(&args.key)?;
            Ok(Signer::Command { command: command.clone(), public_key })
        }
        None => personal::open(&args.key, || passphrase::of(args.passphrase_file.as_deref(), &args.key)),
    }
}

/// Adds a person's signature to a bundle, and to each of its volumes.
pub fn sign(cx: &Cx, args: &SignArgs) -> Result<ExitCode> {
    let (mut with, mut signed) = (None, None);
    for dir in &args.dirs {
        signed = Some(file::in_folder(dir, |dir| sign_in(cx, args, dir, &mut with))?);
    }
    let (person, standing) =
        signed.ok_or_else(|| Error::usage("there is no bundle").hint("name its folder"))?;
    cx.out.answer(
        || Ok(serde_json::json!({"person": person, "release": standing})),
        || format!("Signed by {person}.\nThe bundle is {standing}.\n"),
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Signs what lies in a folder: a bundle, or volumes of it. The key is opened once.
fn sign_in(cx: &Cx, args: &SignArgs, dir: &Path, with: &mut Option<Signer>) -> Result<(String, Released)> {
    let candidates: Vec<Candidate> = volumes::within(&[dir.to_owned()])
        .iter()
        .map(|folder| Candidate::open(folder))
        .collect::<Result<_>>()?;
    let options = cx.options();
    let mut last = None;
    for candidate in &candidates {
        if !args.header {
            candidate.check(options.threads, &options.progress)?;
        }
        // What is signed is told before anything is asked.
        cx.out.say(&told(candidate, !args.header));
    }
    for candidate in &candidates {
        if with.is_none() {
            *with = Some(signer(&args.signer)?);
        }
        if let Some(signer) = with {
            last = Some(candidate.sign(signer)?);
        }
    }
    last.ok_or_else(|| Error::usage(format!("{} holds no bundle", dir.display())).hint("name its folder"))
}

fn told(candidate: &Candidate, is_whole: bool) -> String {
    let m = &candidate.opened().manifest;
    let channels: Vec<&str> = m.channels.keys().map(String::as_str).collect();
    let (root, size) = (candidate.chain().newest(), m.files.bytes());
    format!(
        "{}\n  from     {} ({})\n  stream   {}, bundle {}{}\n  to       {}\n  written  {}\n  holds    {}, {}, {}\n  manifest {}\n  root     {}, version {} ({})",
        if is_whole { "Whole and unchanged:" } else { "Not looked at:" },
        m.sender.name,
        fingerprint(&candidate.opened().signer),
        m.stream,
        m.number,
        if m.volumes.is_empty() { String::new() } else { format!(", {}", candidate.opened().part) },
        m.recipient.as_deref().unwrap_or("whoever trusts it"),
        m.created,
        count(m.files.len() as u64, "file"),
        bytes(size),
        match (&m.sealed, channels.is_empty()) {
            (Some(sealed), _) =>
                format!("sealed to {}: what is in them does not show", sealed.recipients.join(", ")),
            (None, true) => "for no channel: advisories alone".to_owned(),
            (None, false) => format!("for {}", channels.join(", ")),
        },
        candidate.opened().digest,
        root.name,
        root.version,
        candidate.chain().fingerprint(),
    )
}

/// `airlock key`
pub async fn key(cx: &Cx, command: KeyCommand) -> Result<ExitCode> {
    match command {
        KeyCommand::New { file, passphrase_file } => {
            let passphrase = passphrase::new(passphrase_file.as_deref(), &file)?;
            let (beside, public) = personal::create(&file, &passphrase)?;
            let print = fingerprint(&public);
            cx.out.answer(
                || Ok(serde_json::json!({"key": file, "public": beside, "fingerprint": print})),
                || {
                    format!(
                        "Made {} for you alone, and {} to hand out.\n  fingerprint  {print}\n",
                        file.display(),
                        beside.display()
                    )
                },
            )?;
        }
        KeyCommand::Identity { add } => super::identity::run(cx, add).await?,
        KeyCommand::Show { file } => {
            let print = fingerprint(&keys::read_public(&file)?);
            cx.out.answer(|| Ok(serde_json::json!({"fingerprint": print})), || format!("{print}\n"))?;
        }
        KeyCommand::Root(command) => root(cx, command)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn root(cx: &Cx, command: RootCommand) -> Result<()> {
    let shown = match &command {
        RootCommand::New { file, name, change } => roots::create(file, name, &changed(change)?)?,
        RootCommand::Change { file, change } => roots::change(file, &changed(change)?)?,
        RootCommand::Show { file } => roots::show(&roots::read(file)?)?,
        RootCommand::Sign { file, signer: with } => {
            cx.out.say(&shown_text(&roots::show(&roots::read(file)?)?));
            let (person, shown) = roots::sign(file, &signer(with)?)?;
            cx.out.say(&format!("signed by {person}"));
            shown
        }
    };
    cx.out.answer(|| Ok(serde_json::to_value(&shown)?), || shown_text(&shown))
}

fn changed(args: &ChangeArgs) -> Result<Change> {
    let keys = |named: &[(String, PathBuf)]| -> Result<Vec<(String, [u8; 32])>> {
        named.iter().map(|(person, file)| Ok((person.clone(), keys::read_public(file)?))).collect()
    };
    Ok(Change {
        root: SignersChange {
            remove: args.remove_root.clone(),
            add: keys(&args.add_root)?,
            threshold: args.root_threshold,
        },
        release: SignersChange {
            remove: args.remove_release.clone(),
            add: keys(&args.add_release)?,
            threshold: args.release_threshold,
        },
        valid_until: args.valid_until,
    })
}

fn shown_text(shown: &Shown) -> String {
    let root = &shown.root;
    let until = root.valid_until.map(|until| format!(", valid until {until}")).unwrap_or_default();
    let mut text = format!(
        "Root {}, version {}{until}\n  fingerprint  {}\n",
        root.name, root.version, shown.fingerprint
    );
    let mut rows = Vec::new();
    for (role, signers) in [("root", &root.root), ("release", &root.release)] {
        text += &format!("  {} of {} {role} keys must sign\n", signers.threshold, signers.keys.len());
        rows.extend(key_rows(role, signers));
    }
    text += &table(&rows);
    let lacks = |tally: &Tally, whose: &str| match tally.missing {
        0 => String::new(),
        n => format!("Missing: {} of {whose}: {}\n", count(n.into(), "signature"), tally.open.join(", ")),
    };
    if let Some(before) = &shown.standing.before {
        text += &lacks(before, "the root keys before it");
    }
    text += &lacks(&shown.standing.own, "its own root keys");
    if shown.standing.is_complete() {
        text += "It is complete.\n";
    }
    text
}

fn key_rows(role: &str, signers: &Signers) -> Vec<Vec<String>> {
    let print = |key: &str| airlock_core::hex::decode(key).map(|k| fingerprint(&k)).unwrap_or_default();
    signers.keys.iter().map(|(key, person)| vec![format!("    {role}"), person.clone(), print(key)]).collect()
}

/// The key or root that a file holds.
pub fn whom(path: &Path) -> Result<Whom> {
    match roots::is_root(path) {
        true => Ok(Whom::Root(roots::read_chain(path)?)),
        false => Ok(Whom::Key(keys::read_public(path)?)),
    }
}

/// What of a sender needs no person here, as far as anything may.
fn accepted(what: AcceptArg) -> Result<trust::Accept> {
    let of = match what {
        AcceptArg::Loosening => return Ok(trust::Accept::Loosening),
        AcceptArg::Decisions => "decisions",
        AcceptArg::Waivers => "waivers",
    };
    Err(Error::usage(format!("a sender's {of} count on no other station, and nothing can accept them")).hint(
        "whoever is responsible here looks at it: `airlock review approve` or `airlock review waive`; milder advisories are accepted with --accept loosening",
    ))
}

/// The key of a station for its link: a root sends no packets.
fn link(path: &Path) -> Result<Whom> {
    match roots::is_root(path) {
        true => Err(Error::usage(format!("{} is a root, which sends no packets", path.display()))
            .hint("give the station.pub of the station at the other end with --link-only")),
        false => Ok(Whom::Link(keys::read_public(path)?)),
    }
}

/// `airlock trust`
pub async fn trust(cx: &Cx, command: TrustCommand) -> Result<ExitCode> {
    let station = cx.open().await?;
    match command {
        TrustCommand::Add { name, keyfile, fingerprint, stream, channels, recipient, accept, link_only } => {
            let accept = accept.into_iter().map(accepted).collect::<Result<_>>()?;
            let limits = trust::Limits { stream, channels, recipient, accept };
            let whom = if link_only { link(&keyfile)? } else { whom(&keyfile)? };
            let added = trust::add(&station, &name, whom, &fingerprint, limits).await?;
            cx.out.answer(
                || Ok(serde_json::to_value(&added)?),
                || match link_only {
                    true => format!(
                        "Packets of `{name}` on a one-way link are believed from now on, and nothing else of it.\n"
                    ),
                    false => format!("Bundles signed by `{name}` are taken from now on.\n"),
                },
            )?;
        }
        TrustCommand::List => {
            let list = trust::list(&station).await?;
            let rows: Vec<Vec<String>> = list.iter().map(trust_row).collect::<Result<_>>()?;
            cx.out.answer(|| Ok(serde_json::json!({ "trusted": list })), || table(&rows))?;
        }
        TrustCommand::Update { file } => {
            let chain = roots::read_chain(&file)?;
            let (root, version) = (chain.newest().name.clone(), chain.newest().version);
            let moved = trust::update(&station, &chain).await?;
            cx.out.answer(
                || Ok(serde_json::json!({"root": root, "version": version, "moved": moved})),
                || match moved.is_empty() {
                    true => {
                        format!("Version {version} of root `{root}`, or a newer one, is known already.\n")
                    }
                    false => format!("Version {version} of root `{root}` counts from now on.\n"),
                },
            )?;
        }
        TrustCommand::Revoke { name } => {
            trust::revoke(&station, &name).await?;
            cx.out.answer(
                || Ok(serde_json::json!({ "revoked": name })),
                || format!("`{name}` is trusted no longer.\n"),
            )?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn trust_row(trust: &Trust) -> Result<Vec<String>> {
    let newest = trust.root.as_ref().and_then(|file| file.versions.last());
    let what = match newest {
        Some(n) => format!("root {}, version {}", n.root.name, n.root.version),
        None if trust.is_link_only() => "key, for a one-way link alone".to_owned(),
        None => "key".to_owned(),
    };
    let print = trust.fingerprint()?;
    Ok(vec![trust.name.clone(), print, what, format!("since {}", trust.since.date())])
}
