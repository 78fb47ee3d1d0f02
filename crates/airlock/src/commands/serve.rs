//! `serve`: HTTP, and what time alone changes.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use airlock_core::id::Id;
use airlock_core::snapshot::Snapshot;
use airlock_engine::channel::{self, ref_name};
use airlock_engine::child;
use airlock_engine::clock;
use airlock_engine::downloads;
use airlock_engine::error::{Error, Result};
use airlock_engine::judge::How;
use airlock_engine::station::Station;
use airlock_engine::sync;
use airlock_engine::view::View;

use super::Cx;

/// How often it is looked whether a snapshot has run out.
const ROUND: Duration = Duration::from_secs(30);
/// How long the last batch of the download log may take when the server stops.
const LAST_BATCH: Duration = Duration::from_secs(5);

pub async fn run(cx: &Cx, listen_on: Option<String>) -> Result<ExitCode> {
    let station = cx.open().await?;
    let address = listen_on.unwrap_or_else(|| station.config.listen.clone());
    let (listener, address) = listen(&address).await?;
    cx.out.say(&format!("serving {} on http://{address}/", station.config.name));
    if !address.ip().is_loopback() {
        cx.out.say(
            "every host that reaches this address may read every channel: put a proxy with logins before it",
        );
    }
    let jobs = tokio::spawn(keep_valid(station.clone()));
    let scrub = tokio::spawn(airlock_engine::scrub::run(station.clone(), |text| eprintln!("{text}")));
    let shadows = tokio::spawn(airlock_engine::shadow::run(station.clone(), |text| eprintln!("{text}")));
    let feeds = tokio::spawn(airlock_engine::ledger::feed::run(station.clone(), |text| eprintln!("{text}")));
    let result = serve(listener, station).await;
    jobs.abort();
    shadows.abort();
    feeds.abort();
    scrub.abort();
    result.map(|()| ExitCode::SUCCESS)
}

/// Opens a listening socket.
pub async fn listen(address: &str) -> Result<(tokio::net::TcpListener, SocketAddr)> {
    let fail = |e: std::io::Error| {
        Error::usage(format!("cannot listen on {address}: {e}"))
            .hint("choose another address with --listen ADDR:PORT")
    };
    let listener = tokio::net::TcpListener::bind(address).await.map_err(fail)?;
    let address = listener.local_addr().map_err(|e| Error::fault(e.to_string()))?;
    Ok((listener, address))
}

/// Serves until it is interrupted. A client that does not finish cannot keep it from stopping.
pub async fn serve(listener: tokio::net::TcpListener, station: Station) -> Result<()> {
    let proxies = station.config.proxies.clone();
    let (log, writer) = downloads::open(&station, downloads::QUEUE_MAX)?.unzip();
    let writing = writer.map(|writer| tokio::spawn(writer.run(|text| eprintln!("{text}"))));
    let app = airlock_web::App::new(View::new(station), proxies).noting(log);
    let site = airlock_web::Site::new(app);
    airlock_web::serve(listener, site.into(), airlock_web::Limits::default(), interrupted()).await;
    // Nobody notes anything any more: what came last is written.
    if let Some(writing) = writing {
        let _late = tokio::time::timeout(LAST_BATCH, writing).await;
    }
    Ok(())
}

pub(super) async fn interrupted() {
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminate => {}
    }
}

/// Judges again what time alone changes (waivers that end, reviews that fall due, feeds that grow old) and children that were
/// not judged since their parent was published, as when that was broken off in between; and lets the download log forget.
async fn keep_valid(station: Station) {
    loop {
        tokio::time::sleep(ROUND).await;
        // Also that it was seen: a jump is one between two looks.
        if let Err(error) = clock::check(&station).await {
            eprintln!("error: {}", error.message);
        }
        if let Err(error) = judge_expired(&station).await {
            eprintln!("error: judging what has run out: {error}");
        }
        if let Err(error) = downloads::expire(&station).await {
            eprintln!("error: removing what the download log keeps no longer: {error}");
        }
    }
}

async fn judge_expired(station: &Station) -> Result<()> {
    let now = station.now().await?;
    let mut failed = None;
    for channel in channel::list(station).await? {
        let Some(id) = station.store.db.find_ref(&ref_name(&channel.name, "snapshot")).await? else {
            continue;
        };
        let snapshot: Snapshot = station.store.db.get(Id::new(id)).await?;
        let is_due = snapshot.valid_until.is_some_and(|until| until <= now);
        // In the order of names a parent comes before its children.
        if (is_due || child::is_behind(station, &channel).await?)
            && let Err(e) = sync::rejudge(station, &channel, &How::default(), false, "time").await
        {
            failed = failed.or(Some(e.while_(&format!("channel {}", channel.name))));
        }
    }
    failed.map_or(Ok(()), Err)
}
