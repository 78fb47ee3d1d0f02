//! What the commands are allowed that read what others wrote: `import`, `verify`, `receive`

use std::path::{Path, PathBuf};

use airlock_engine::confine::{Confinement, Needs};
use airlock_engine::error::{Error, Result};
use airlock_engine::feeds;
use airlock_engine::station::Station;
use airlock_engine::upstream::Location;

use super::{cores, options, station_dir};
use crate::cli::bundles::{ImportArgs, VerifyArgs};
use crate::cli::{Cli, Command, ReceiveArgs};
use crate::output::Output;

/// Gives up what the command does not need, if it is one that reads what others wrote; to be called while this is the only
/// thread.
pub fn confine(cli: &mut Cli) -> Result<Option<Confinement>> {
    let mut needs = Needs::default();
    match &cli.command {
        Command::Import(args) => import(cli, args, &mut needs)?,
        Command::Verify(args) => verify(cli, args, &mut needs)?,
        Command::Receive(args) => receive(cli, args, &mut needs)?,
        _ => return Ok(None),
    }
    if let Some(file) = &cli.who.token_file {
        needs.read(file);
    }
    // What says how many there are is out of reach afterwards.
    if cli.habits.threads == 0 {
        cli.habits.threads = cores();
    }
    let confinement = needs.confine()?;
    let how = match confinement {
        Confinement::Full => return Ok(Some(confinement)),
        Confinement::Partial => "knows less than this program asks for: it is confined in part",
        Confinement::None => "has no Landlock, or does not use it: it runs with all rights of its user",
    };
    Output::new(cli.habits).say(&format!("what reads this is to be confined, and the kernel {how}"));
    Ok(Some(confinement))
}

fn import(cli: &Cli, args: &ImportArgs, needs: &mut Needs) -> Result<()> {
    for dir in &args.dirs {
        needs.source(&place(dir));
    }
    if let Some(file) = &args.receipt_out {
        needs.write(folder_of(file));
    }
    let Some(dir) = station_dir(cli.station.as_deref()) else { return Ok(()) };
    let config = needs.station(&dir)?;
    needs.scanner(&config.import);
    if config.notify.webhook.is_some() {
        needs.connect();
    }
    if args.tree.channel.is_some() {
        for location in new_feeds(cli, &dir)? {
            needs.source(&place(Path::new(&location)));
        }
    }
    Ok(())
}

fn verify(cli: &Cli, args: &VerifyArgs, needs: &mut Needs) -> Result<()> {
    let at = place(&args.dir);
    needs.source(&at);
    if let Some(key) = &args.key {
        needs.read(key);
    }
    // By whose rules hosts are asked, and whom it trusts.
    let dir =
        station_dir(cli.station.as_deref()).filter(|_| args.key.is_none() || matches!(at, Location::Http(_)));
    dir.map_or(Ok(()), |dir| needs.station(&dir).map(|_| ()))
}

fn receive(cli: &Cli, args: &ReceiveArgs, needs: &mut Needs) -> Result<()> {
    let is_http = !args.listen.starts_with("udp:");
    if is_http {
        super::inbox::check(args)?;
    }
    std::fs::create_dir_all(&args.into).map_err(|e| {
        Error::fault(format!("{}: {e}", args.into.display())).hint("make room or choose another place")
    })?;
    needs.write(&args.into);
    // Only what listens at a name has to find it.
    if !is_numeric(&args.listen) {
        needs.find_hosts();
    }
    if is_http {
        needs.listen();
    }
    for file in [&args.tls_cert, &args.tls_key].into_iter().flatten() {
        needs.read(file);
    }
    let dir = station_dir(cli.station.as_deref());
    dir.map_or(Ok(()), |dir| needs.station(&dir).map(|_| ()))
}

/// Whether a place to listen at is named by numbers.
fn is_numeric(listen: &str) -> bool {
    let rest = listen.split_once("://").map_or(listen, |(_, rest)| rest);
    rest.split('/').next().is_some_and(|address| address.parse::<std::net::SocketAddr>().is_ok())
}

/// What was named: an address, or what lies here. What is neither, the command refuses itself.
fn place(named: &Path) -> Location {
    let text = named.to_str().unwrap_or_default();
    match text.contains("://").then(|| Location::parse(text)) {
        Some(Ok(at)) => at,
        _ => Location::Path(named.to_owned()),
    }
}

/// Where a file is written.
fn folder_of(file: &Path) -> PathBuf {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new(".")).to_owned()
}

/// Where the feeds lie that are read before the first tree is judged. Whoever looks has ended when this returns.
fn new_feeds(cli: &Cli, dir: &Path) -> Result<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Error::fault(format!("the runtime cannot be started: {e}")))?;
    runtime.block_on(async {
        let station = Station::open(dir, options(cli.habits)).await?;
        let found = feeds::never_read(&station).await?;
        station.store.db.close().await;
        Ok(found.into_values().collect())
    })
}
