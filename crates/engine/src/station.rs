//! A station: its directory, configuration, key, store and clock.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use airlock_core::canon::Canonical;
use airlock_core::id::Digest;
use airlock_core::policy::{self, PolicyText};
use airlock_core::time::Time;
use airlock_core::unseen::has_unseen;
use airlock_store::{Change, Lease, Leased, NameChange, NewEntry, RefChange, Store};

use crate::boxed;
use crate::bundle::scan::Importing;
use crate::bundle::seals::Seals;
use crate::clock::{self, Trusted};
use crate::downloads::Downloads;
use crate::error::{Error, Result, file_error};
use crate::fetch::Probing;
use crate::keys::StationKey;
use crate::ledger::feed::LedgerConfig;
use crate::network::{self, Network};
use crate::people::{Login, PeopleConfig};
use crate::progress::Progress;
use crate::proposals::{self, Confirmed};
use crate::request::Leaving;
use crate::retention::Retention;
use crate::roots::Release;
use crate::scrub::Scrub;
use crate::upstream::Traffic;

/// The name of the configuration file, by which a station's directory is known.
pub const CONFIG: &str = "airlock.toml";

/// Which side of the gap a station stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// May fetch from upstreams.
    Connected,
    /// Opens no outgoing connection but to hosts that its configuration lists.
    Isolated,
}

/// `airlock.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The station's name, for people.
    pub name: String,
    /// Its side.
    pub side: Side,
    /// Where `airlock serve` listens unless told otherwise.
    #[serde(default = "default_listen")]
    pub listen: String,
    /// Hosts beyond those of its sources that this station may connect to: where an index keeps its files
    /// elsewhere, or what an isolated station may reach at all.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Addresses of reverse proxies before `airlock serve`. From nobody else is an `X-Forwarded-` header believed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proxies: Vec<std::net::IpAddr>,
    /// How sources are reached.
    #[serde(default, skip_serializing_if = "Network::is_default")]
    pub network: Network,
    /// Which snapshots are kept.
    #[serde(default, skip_serializing_if = "Retention::is_default")]
    pub retention: Retention,
    /// How much is fetched only to be opened.
    #[serde(default, skip_serializing_if = "Probing::is_default")]
    pub probing: Probing,
    /// How `serve` looks after the bytes that lie here.
    #[serde(default, skip_serializing_if = "Scrub::is_default")]
    pub scrub: Scrub,
    /// Whether and for how long it is noted who was sent what.
    #[serde(default, skip_serializing_if = "Downloads::is_default")]
    pub downloads: Downloads,
    /// Who is told of each entry of the ledger.
    #[serde(default, skip_serializing_if = "LedgerConfig::is_default")]
    pub ledger: LedgerConfig,
    /// What of requests may leave.
    #[serde(default, skip_serializing_if = "Leaving::is_default")]
    pub requests: Leaving,
    /// Who is told what changed.
    #[serde(default, skip_serializing_if = "Notify::is_default")]
    pub notify: Notify,
    /// How far the system's clock is believed.
    #[serde(default, skip_serializing_if = "Trusted::is_default")]
    pub clock: Trusted,
    /// Who is asked about each file before it comes in.
    #[serde(default, skip_serializing_if = "Importing::is_default")]
    pub import: Importing,
    /// What is asked of people before something changes.
    #[serde(default, skip_serializing_if = "PeopleConfig::is_default")]
    pub people: PeopleConfig,
    /// Who releases bundles.
    #[serde(default, skip_serializing_if = "Release::is_default")]
    pub release: Release,
    /// To whom bundles are sealed, by peer.
    #[serde(default, skip_serializing_if = "Seals::is_default")]
    pub seal: Seals,
}

/// `[notify]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notify {
    /// A URL that takes what changed as JSON, by `POST`. An isolated station has to list its host in `hosts`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
}

impl Notify {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

fn default_listen() -> String {
    "127.0.0.1:8080".to_owned()
}

impl Config {
    /// That of the station in `dir`.
    pub fn read(dir: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(dir.join(CONFIG)).map_err(|e| {
            Error::usage(format!("{} is no station: {e}", dir.display()))
                .hint("make one with `airlock init DIR`, or name one with --station DIR")
        })?;
        Self::parse(&text)
    }

    /// Reads a configuration. Errors name the line but never repeat it: it may hold a password.
    pub fn parse(text: &str) -> Result<Self> {
        let config: Self = toml::from_str(text).map_err(|e| {
            let before = e.span().and_then(|span| text.get(..span.start));
            let line = before.map(|b| format!("line {}: ", b.matches('\n').count() + 1)).unwrap_or_default();
            Error::usage(format!("{CONFIG}: {line}{}", e.message()))
                .hint("docs/operating.md explains every key")
        })?;
        check_name(&config.name)?;
        network::check_hosts(&config.hosts)?;
        config.ledger.check()?;
        config.downloads.check()?;
        config.release.check()?;
        config.seal.check()?;
        proposals::check_names(&config.people.two_person)?;
        Ok(config)
    }
}

/// Where the time comes from. There is no other clock in the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The system's.
    System,
    /// One moment, for replays and tests.
    Fixed(Time),
}

/// How a station is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// The clock.
    pub clock: Clock,
    /// Who acts, for the ledger.
    pub actor: String,
    /// Threads for judging and rendering.
    pub threads: usize,
    /// Who is told how far long work is.
    pub progress: Progress,
}

/// An open station.
#[derive(Clone, Debug)]
pub struct Station {
    /// Its directory.
    pub dir: PathBuf,
    /// Its configuration.
    pub config: Config,
    /// Its key.
    pub key: StationKey,
    /// Its store.
    pub store: Store,
    /// How it was opened.
    pub options: Options,
    /// What all its requests share: places per host, and bytes per second.
    pub traffic: Traffic,
    /// Who acts, if they showed a token.
    pub login: Option<Login>,
    /// What somebody else proposed and is carried out by whoever acts.
    pub confirmed: Option<Confirmed>,
    /// Why whoever acts does alone what needs two persons.
    pub break_glass: Option<String>,
}

/// An entry of the ledger.
pub(crate) fn entry(action: &str, subject: &str, detail: &serde_json::Value) -> Result<NewEntry> {
    Ok(NewEntry { action: action.to_owned(), subject: subject.to_owned(), detail: Canonical::of(detail)? })
}

/// Whoever takes this station's bundles reads its name, and refuses one that shows as something else.
fn check_name(name: &str) -> Result<()> {
    match name.is_empty() || name.len() > 100 || has_unseen(name) {
        true => Err(Error::usage("a station's name is 1 to 100 bytes on one line that can be seen")),
        false => Ok(()),
    }
}

impl Station {
    /// Makes a station in `dir`, which must not hold one.
    #[boxed]
    pub async fn init(dir: &Path, name: &str, side: Side, options: Options) -> Result<Self> {
        let path = dir.join(CONFIG);
        if path.exists() {
            return Err(Error::usage(format!("{} is a station already", dir.display()))
                .hint("choose another directory, or use it with --station"));
        }
        check_name(name)?;
        std::fs::create_dir_all(dir).map_err(file_error(dir))?;
        let key = StationKey::create(&dir.join("keys"))?;
        let store = Store::open(dir, true).await?;
        let config = Config {
            name: name.to_owned(),
            side,
            listen: default_listen(),
            hosts: Vec::new(),
            clock: Trusted::default(),
            import: Importing::default(),
            proxies: Vec::new(),
            network: Network::default(),
            retention: Retention::default(),
            probing: Probing::default(),
            scrub: Scrub::default(),
            downloads: Downloads::default(),
            ledger: LedgerConfig::default(),
            requests: Leaving::default(),
            notify: Notify::default(),
            people: PeopleConfig::default(),
            release: Release::default(),
            seal: Seals::default(),
        };
        let station = Self::of(dir, config, key, store, options);
        let policy = PolicyText { text: policy::DEFAULT.to_owned() };
        let id = station.store.db.put(&policy).await?;
        let key = station.key.public_hex();
        let detail = serde_json::json!({"name": name, "side": side, "public_key": key, "policy": id, "checkpoint": crate::ledger::CHECKPOINT});
        station
            .commit(
                vec![RefChange { name: "policy/default".into(), from: None, to: Some(id.digest()) }],
                "station.init",
                name,
                &detail,
            )
            .await?;
        // Last, because the file is what makes the directory a station.
        let text = toml::to_string(&station.config).map_err(|e| Error::fault(e.to_string()))?;
        let text = format!("# An Airlock station. Every key is explained in docs/operating.md.\n{text}");
        std::fs::write(&path, text).map_err(file_error(&path))?;
        Ok(station)
    }

    /// Opens the station in `dir`.
    #[boxed]
    pub async fn open(dir: &Path, options: Options) -> Result<Self> {
        let config = Config::read(dir)?;
        config.network.check(dir)?;
        let key = StationKey::open(&dir.join("keys"))?;
        let store = Store::open(dir, false).await?;
        Ok(Self::of(dir, config, key, store, options))
    }

    fn of(dir: &Path, config: Config, key: StationKey, store: Store, options: Options) -> Self {
        let traffic = Traffic::default();
        let dir = dir.to_owned();
        Self { dir, config, key, store, options, traffic, login: None, confirmed: None, break_glass: None }
    }

    /// Who acts, as records tell it: what the operating system calls them, and before it the user whose token they showed.
    pub fn author(&self) -> String {
        let acts = match &self.login {
            Some(login) => format!("{} (token, as {})", login.name, self.options.actor),
            None => self.options.actor.clone(),
        };
        match &self.confirmed {
            Some(confirmed) => format!("{} (token), confirmed by {acts}", confirmed.by),
            None => acts,
        }
    }

    /// The name of whoever acts: the user's whose token they showed, else what the operating system calls them.
    pub fn user(&self) -> &str {
        self.login.as_ref().map_or(&self.options.actor, |login| &login.name)
    }

    /// What the clock says.
    pub fn clock(&self) -> Time {
        match self.options.clock {
            Clock::Fixed(time) => time,
            Clock::System => {
                let since =
                    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                Time::from_seconds(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
            }
        }
    }

    /// The time: that of the clock, and never before the last ledger entry.
    pub async fn now(&self) -> Result<Time> {
        Ok(clock::believed(self, self.store.db.last_time().await?))
    }

    /// Moves refs and says so in the ledger, all of it or nothing.
    pub async fn commit(
        &self,
        refs: Vec<RefChange>,
        action: &str,
        subject: &str,
        detail: &serde_json::Value,
    ) -> Result<()> {
        self.commit_all(refs, Vec::new(), vec![entry(action, subject, detail)?]).await
    }

    /// The same with several entries of the ledger, and the names of the shards that are published.
    pub async fn commit_all(
        &self,
        refs: Vec<RefChange>,
        names: Vec<NameChange>,
        entries: Vec<NewEntry>,
    ) -> Result<()> {
        let (time, actor) = (self.now().await?, self.author());
        let change = Change { time, actor, refs, entries, names };
        let head = self.store.db.commit(&change).await?;
        // What happened has happened, whether it can be signed beside or not.
        if let Err(error) = crate::ledger::checkpoint(self, head, time).await {
            tracing::warn!(
                "the checkpoint of the ledger was not written: {}; run `airlock ledger verify`",
                error.message
            );
        }
        Ok(())
    }

    /// Takes the lease of one thing, such as `channel/main`, for as long as the answer is held.
    ///
    /// # Errors
    ///
    /// If somebody has it: who, and since when. Nothing ever waits for a lease.
    pub async fn lease(&self, what: &str, doing: &str) -> Result<Lease> {
        let (actor, process) = (&self.options.actor, std::process::id());
        let holder = format!("{doing} of {actor}, process {process}, since {}", self.now().await?);
        match Lease::take(&self.dir.join("leases"), what, &holder)? {
            Leased::Ours(lease) => Ok(lease),
            Leased::Held(holder) => {
                let by = if holder.is_empty() { "another command" } else { &holder };
                Err(Error::fault(format!("{what} is being changed by {by}"))
                    .hint("let it finish, then run this again; `airlock block` works at any time"))
            }
        }
    }

    /// Points a ref at `to`, from whatever it points to now.
    pub async fn move_ref(&self, name: &str, to: Option<Digest>) -> Result<RefChange> {
        let from = self.store.db.find_ref(name).await?;
        Ok(RefChange { name: name.to_owned(), from, to })
    }
}
