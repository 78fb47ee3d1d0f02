//! `airlock demo`: the whole line on a built-in sample, told as a story.

mod check;
mod sample;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use airlock_core::advisory::FeedKind;
use airlock_core::channel::{Channel, ChannelFeed};
use airlock_core::ecosystem::Ecosystem;
use airlock_core::spec::Spec;
use airlock_engine::bundle::export::{self, What};
use airlock_engine::bundle::{import, verify};
use airlock_engine::error::{Error, Result};
use airlock_engine::explain;
use airlock_engine::station::{Side, Station};
use airlock_engine::view::View;
use airlock_engine::{channel, feeds, sync, trust};

use crate::commands::{Cx, listen, serve_until_interrupted};
use crate::output::{bytes, count, write};

/// Tells the story, a numbered step at a time.
struct Story {
    step: u32,
    began: Instant,
}

impl Story {
    fn tell(&mut self, title: &str, lines: &[String]) -> Result<()> {
        self.step += 1;
        let mut text = format!("\n{}. {title}\n", self.step);
        for line in lines {
            text += &format!("   {line}\n");
        }
        write(&text)
    }
}

pub async fn run(cx: &Cx, port: u16, dir: Option<PathBuf>, exit: bool) -> Result<ExitCode> {
    let mut story = Story { step: 0, began: Instant::now() };
    // Before the story, so that a port that is taken does not spoil its end.
    let address = if exit { "127.0.0.1:0".to_owned() } else { format!("127.0.0.1:{port}") };
    let (listener, address) = listen(&address)
        .await
        .map_err(|e| Error { hint: None, ..e }.hint("choose another port with --port"))?;
    // Held until the end: a temporary directory goes with it.
    let (dir, _held) = place(dir)?;
    sample::write(&dir)?;
    let low = connected(cx, &dir, &mut story).await?;
    let high = cross(cx, &dir, &low, &mut story).await?;
    let base = format!("http://{address}/");
    let server = tokio::spawn(serve_until_interrupted(listener, high));
    install(&low, &base, &mut story).await?;
    let seconds = story.began.elapsed().as_secs_f64();
    write(&format!("\nAll of it took {seconds:.1} s.\n"))?;
    if exit {
        server.abort();
        return Ok(ExitCode::SUCCESS);
    }
    write(&what_next(&base, &dir))?;
    server.await.map_err(|e| Error::fault(format!("the server stopped: {e}")))??;
    Ok(ExitCode::SUCCESS)
}

fn place(dir: Option<PathBuf>) -> Result<(PathBuf, Option<tempfile::TempDir>)> {
    let fail = |e: std::io::Error| Error::fault(format!("no directory can be made: {e}"));
    match dir {
        None => {
            let held = tempfile::Builder::new().prefix("airlock-demo-").tempdir().map_err(fail)?;
            Ok((held.path().to_owned(), Some(held)))
        }
        Some(dir) => {
            std::fs::create_dir_all(&dir).map_err(fail)?;
            let is_empty = std::fs::read_dir(&dir).map_err(fail)?.next().is_none();
            if !is_empty {
                return Err(Error::usage(format!("{} is not empty", dir.display()))
                    .hint("give a new directory with --dir"));
            }
            Ok((std::path::absolute(dir).map_err(fail)?, None))
        }
    }
}

/// The connected side: feeds, channels, mirror, judge, publish.
async fn connected(cx: &Cx, dir: &Path, story: &mut Story) -> Result<Station> {
    let low = Station::init(&dir.join("connected"), "connected", Side::Connected, cx.options()).await?;
    story.tell(
        "A station on the connected side",
        &[format!("signs with a key of fingerprint {}", low.key.fingerprint())],
    )?;
    for (kind, file) in [(FeedKind::Osv, "osv.jsonl"), (FeedKind::Identities, "identities.json")] {
        feeds::add(&low, kind, &dir.join("feeds").join(file).to_string_lossy()).await?;
    }
    let reports = feeds::update(&low, &[]).await?.read;
    let read = |r: &feeds::FeedReport| format!("{}: {}", r.name, count(r.head.count, "record"));
    story.tell("It reads what is known of vulnerabilities", &reports.iter().map(read).collect::<Vec<_>>())?;
    let mut lines = Vec::new();
    for (name, ecosystem, source) in
        [("main", Ecosystem::Conda, "upstream/conda"), ("py", Ecosystem::Pypi, "upstream/pypi")]
    {
        let location = dir.join(source).to_string_lossy().into_owned();
        let feed = ChannelFeed::Source { location, subdirs: vec![], only: vec![], exclude: vec![] };
        let channel = channel::add(
            &low,
            Channel { name: name.to_owned(), ecosystem, feed, policy: "default".to_owned() },
        )
        .await?;
        let o = sync::sync(&low, &channel, sync::Wish::default()).await?;
        lines.push(format!(
            "{name} ({ecosystem}): {} read; {} admitted, {} held, {} denied; {} fetched, {}",
            count(o.records, "record"),
            o.counts.admit,
            o.counts.hold,
            o.counts.deny,
            count(o.fetched.files, "file"),
            bytes(o.fetched.bytes),
        ));
        if o.counts.deny == 0 || o.fetched.files == 0 {
            return Err(Error::fault(format!("channel {name} did not come out as the sample was made")));
        }
    }
    lines.push(format!(
        "({} stand-ins per ecosystem, under the names of well-known packages)",
        sample::PACKAGES
    ));
    story.tell("It mirrors a conda channel and a PyPI index, and judges before it fetches", &lines)?;
    story.tell("Why is idna 3.6 not among them?", &why(&low).await?)?;
    Ok(low)
}

async fn why(low: &Station) -> Result<Vec<String>> {
    let view = View::new(low.clone());
    let channel =
        view.channel("main").await?.ok_or_else(|| Error::fault("channel main was not published"))?;
    let spec = Spec::parse(Ecosystem::Conda, "idna==3.6").map_err(|e| Error::fault(e.to_string()))?;
    let explanation = explain::explain(&view, &channel, &spec).await?;
    let mut lines = Vec::new();
    for a in &explanation.artifacts {
        for f in &a.findings {
            let score = f.score.map_or_else(|| "no score".to_owned(), |s| format!("{} {s}", s.band()));
            lines.push(format!(
                "{}: {} by rule {}",
                a.artifact,
                a.verdict,
                a.rules.first().map_or("", |r| &r.rule)
            ));
            lines.push(format!("{} ({}): {score}", f.advisory, f.summary));
        }
        lines.extend(a.nearest.as_ref().map(|n| format!("nearest version that passes: {n}")));
    }
    Ok(lines)
}

/// Over the gap: export, verify with the key alone, import on the isolated side.
async fn cross(cx: &Cx, dir: &Path, low: &Station, story: &mut Story) -> Result<Station> {
    let disk = dir.join("disk");
    let report = export::export(low, &disk, &What::default()).await?;
    let opened = verify::open(&disk, &[low.key.public()])?;
    opened.check_listing()?;
    opened.check_files(cx.options().threads, &cx.options().progress)?;
    story.tell(
        "It writes what passed to a disk, signed, and anybody with its public key can verify it",
        &[
            format!(
                "bundle {} of stream {}: {}, {}, {}",
                report.number,
                report.stream,
                count(report.files, "file"),
                bytes(report.bytes),
                count(report.objects, "object")
            ),
            "every file and every object hashes to what the manifest says".to_owned(),
        ],
    )?;
    let high = Station::init(&dir.join("isolated"), "isolated", Side::Isolated, cx.options()).await?;
    let refused = import::import(&high, &disk).await.err().map(|e| e.message).unwrap_or_default();
    let fingerprint = low.key.fingerprint();
    trust::add(&high, "connected", low.key.public(), &fingerprint, trust::Limits::default()).await?;
    let taken = import::import(&high, &disk).await?;
    let mut lines = vec![
        format!("first it refuses: {refused}"),
        "then a person types the fingerprint, and it verifies, takes in and judges by its own policy:"
            .to_owned(),
    ];
    for o in &taken.outcomes {
        lines.push(format!(
            "{}: {} admitted, {} held, {} denied",
            o.channel, o.counts.admit, o.counts.hold, o.counts.deny
        ));
    }
    for name in ["main", "py"] {
        let here = View::new(high.clone()).channel(name).await?.map(|c| c.snapshot.content);
        let there = View::new(low.clone()).channel(name).await?.map(|c| c.snapshot.content);
        if here.is_none() || here != there {
            return Err(Error::fault(format!("channel {name} differs between the two sides")));
        }
        lines.extend(here.map(|id| format!("{name} has content {} on both sides", id.digest().short())));
    }
    story.tell("A station on the isolated side takes the disk", &lines)?;
    Ok(high)
}

/// As a client inside: install what is offered, be refused what is not.
async fn install(low: &Station, base: &str, story: &mut Story) -> Result<()> {
    let checker = check::Checker::new(low, base)?;
    let conda = checker.conda("idna", "3.10").await?;
    let wheel = checker.pypi("requests", "2.32.4").await?;
    let denied = checker.refused("conda/main/noarch/idna-3.6-py_0.conda").await?;
    let denied_wheel = checker.refused("pypi/py/packages/urllib3/urllib3-1.26.4-py3-none-any.whl").await?;
    story.tell(
        "It serves inside, and a client installs",
        &[
            format!("{conda}: by its shard, hash and archive checked"),
            format!("{wheel}: by its JSON page, hash, archive and .metadata checked"),
            format!("refused: {denied}"),
            format!("refused: {denied_wheel}"),
        ],
    )
}

fn what_next(base: &str, dir: &Path) -> String {
    format!(
        "\nThe isolated station is at {base} - look at it in a browser. Try:\n\n  \
         curl {base}conda/main/noarch/repodata.json\n  \
         pip install --index-url {base}pypi/py/simple/ --target /tmp/x requests\n  \
         pip install --index-url {base}pypi/py/simple/ --target /tmp/x urllib3==1.26.4      (no such version is offered)\n  \
         conda create -p /tmp/y --override-channels -c {base}conda/main jinja2\n\n\
         And on the connected station:\n\n  \
         airlock --station {dir}/connected explain main urllib3\n  \
         airlock --station {dir}/connected ledger log\n\nCtrl-C stops.\n",
        dir = dir.display()
    )
}
