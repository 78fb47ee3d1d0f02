//! A process that reads what others wrote does so with what it needs and no more, whatever those bytes make of it.
//!
//! Before the first of them is read, and before there are further threads, the process gives up for itself, for its threads and
//! for every program that it starts: files and folders that nobody named (Landlock), connections over TCP, signals and abstract
//! sockets to other processes, rights that a program's file would give (`no_new_privs`), and images of its memory. What is open
//! already, the standard streams, stays so. Nothing of it can be taken back.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, NetPort, RestrictionStatus, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use serde::Serialize;

use crate::bundle::scan::Importing;
use crate::error::{Error, Result};
use crate::station::{CONFIG, Config};
use crate::upstream::Location;

/// What is asked of the kernel. One that knows less does what it can, and is told of; newer ones only log more.
const ASKED: ABI = ABI::V6;
/// Where systems keep programs and what those load.
const PROGRAMS: [&str; 6] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64"];
/// Where programs look for settings.
const SETTINGS: &str = "/etc";
/// What it takes beside these to find hosts and to know certificates.
const NAMES: [&str; 3] = ["/run/systemd/resolve", "/run/resolvconf", "/var/lib/ca-certificates"];
/// What any program may expect to read.
const DEVICES: [&str; 3] = ["/dev/null", "/dev/zero", "/dev/urandom"];

/// What a process needs. Files and folders that are not there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    reads: Vec<PathBuf>,
    writes: Vec<PathBuf>,
    runs: Vec<PathBuf>,
    ports: Vec<u16>,
    connects: bool,
    listens: bool,
}

/// How far a process is confined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Confinement {
    /// As it should be.
    Full,
    /// As far as this kernel knows how.
    Partial,
    /// This kernel has no Landlock, or it is switched off.
    None,
}

impl Needs {
    /// Files, or folders with all below them, that are read.
    pub fn read(&mut self, path: impl Into<PathBuf>) {
        self.reads.push(path.into());
    }

    /// Files, or folders with all below them, that are written to, too.
    pub fn write(&mut self, path: impl Into<PathBuf>) {
        self.writes.push(path.into());
    }

    /// Any host over TCP.
    pub fn connect(&mut self) {
        self.connects = true;
        self.find_hosts();
    }

    /// Names of hosts, and certificates.
    pub fn find_hosts(&mut self) {
        self.reads.extend(PROGRAMS.iter().chain([&SETTINGS]).chain(&NAMES).map(PathBuf::from));
        self.reads
            .extend(["SSL_CERT_FILE", "SSL_CERT_DIR"].iter().filter_map(std::env::var_os).map(PathBuf::from));
    }

    /// Taking connections over TCP.
    pub fn listen(&mut self) {
        self.listens = true;
    }

    /// What lies there, a folder or an address.
    pub fn source(&mut self, at: &Location) {
        match at {
            Location::Http(_) => self.connect(),
            Location::Path(path) => self.read(path),
        }
    }

    /// A station, which is opened and changed. Gives its configuration.
    ///
    /// # Errors
    ///
    /// If there is none, or its configuration cannot be read.
    pub fn station(&mut self, dir: &Path) -> Result<Config> {
        let config = Config::read(dir)?;
        self.write(dir);
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_symlink())
                && let Ok(path) = entry.path().canonicalize()
            {
                self.elsewhere(&entry.file_name(), path);
            }
        }
        self.reads.extend(config.network.files().map(|path| dir.join(path)));
        Ok(config)
    }

    /// A part of the station that lies elsewhere, by a link.
    fn elsewhere(&mut self, name: &std::ffi::OsStr, path: PathBuf) {
        match (name == CONFIG || name == "keys", path.is_dir(), path.parent()) {
            (true, _, _) => self.read(path),
            // Beside a database are the files of its journal.
            (false, false, Some(folder)) => self.write(folder),
            _ => self.write(path),
        }
    }

    /// Whoever looks at files before they come in, with all that `[import]` says they need.
    pub fn scanner(&mut self, import: &Importing) {
        self.runs.extend(import.reads.iter().cloned());
        self.writes.extend(import.writes.iter().cloned());
        self.ports.extend(&import.ports);
        let Some(program) = import.command.first() else { return };
        self.runs.extend(PROGRAMS.map(PathBuf::from));
        self.reads.extend([SETTINGS].iter().chain(&DEVICES).map(PathBuf::from));
        // The program, wherever it lies, and scripts that an interpreter is given.
        if !program.contains('/') {
            let path = std::env::var_os("PATH").unwrap_or_default();
            self.runs.extend(
                std::env::split_paths(&path).map(|dir| dir.join(program)).find(|path| path.is_file()),
            );
        }
        self.runs.extend(import.command.iter().filter(|word| word.contains('/')).map(PathBuf::from));
    }

    /// Gives up everything else, for this thread and all that it starts from now on.
    ///
    /// # Errors
    ///
    /// If the kernel knows how and does not do it.
    pub fn confine(&self) -> Result<Confinement> {
        let failed = |why: &dyn std::fmt::Display| {
            Error::fault(format!(
                "this process could not give up its rights before it reads what others wrote: {why}"
            ))
            .hint(
                "nothing was read; look at what the system allows this user and container (Landlock, prctl)",
            )
        };
        let none = Rlimit { current: Some(0), maximum: Some(0) };
        setrlimit(Resource::Core, none).map_err(|e| failed(&e))?;
        let status = self.restrict().map_err(|e| failed(&e))?;
        if !status.no_new_privs {
            return Err(failed(&"programs would still get the rights of their files"));
        }
        Ok(match status.ruleset {
            RulesetStatus::FullyEnforced => Confinement::Full,
            RulesetStatus::PartiallyEnforced => Confinement::Partial,
            RulesetStatus::NotEnforced => Confinement::None,
        })
    }

    /// Gives up, for this thread and the programs that it starts, to write anywhere but there: not even to what the process may
    /// write. Says whether the kernel knows how.
    ///
    /// # Errors
    ///
    /// If the kernel knows how and does not do it.
    pub(crate) fn write_only_to(paths: &[PathBuf]) -> std::result::Result<bool, RulesetError> {
        let write = AccessFs::from_write(ASKED);
        Ruleset::default()
            .handle_access(write)?
            .create()?
            .add_rules(path_beneath_rules(paths, write))?
            .add_rules(path_beneath_rules(["/dev/null"], AccessFs::WriteFile))?
            .restrict_self()
            .map(|status| status.ruleset != RulesetStatus::NotEnforced)
    }

    fn restrict(&self) -> std::result::Result<RestrictionStatus, RulesetError> {
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        let run = read | AccessFs::Execute;
        let write = AccessFs::from_all(ASKED) & !BitFlags::from(AccessFs::Execute);
        let mut handled: BitFlags<AccessNet> = AccessNet::from_all(ASKED);
        for (is_free, access) in [(self.connects, AccessNet::ConnectTcp), (self.listens, AccessNet::BindTcp)]
        {
            if is_free {
                handled.remove(access);
            }
        }
        let ports = if self.connects { &[][..] } else { &self.ports };
        let mut asked = Ruleset::default().handle_access(AccessFs::from_all(ASKED))?;
        if !handled.is_empty() {
            asked = asked.handle_access(handled)?;
        }
        asked
            .scope(Scope::from_all(ASKED))?
            .create()?
            .add_rules(path_beneath_rules(&self.reads, read))?
            .add_rules(path_beneath_rules(&self.runs, run))?
            .add_rules(path_beneath_rules(&self.writes, write))?
            .add_rules(path_beneath_rules(["/dev/null"], AccessFs::ReadFile | AccessFs::WriteFile))?
            .add_rules(
                ports.iter().map(|port| Ok::<_, RulesetError>(NetPort::new(*port, AccessNet::ConnectTcp))),
            )?
            .restrict_self()
    }
}

#[cfg(test)]
mod tests {
    use airlock_core::object;
    use airlock_core::policy::PolicyText;
    use airlock_store::{Db, Packed};

    use super::*;

    /// Enough objects that one statement changes more pages of the database than SQLite remembers outside of a file.
    const OBJECTS: usize = 60_000;

    #[test]
    fn a_large_database_is_written_to_without_a_file_anywhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        let work = move || {
            let mut needs = Needs::default();
            needs.write(&path);
            let confined = needs.confine().unwrap();
            let elsewhere = std::env::temp_dir().join(format!("confined-{}", std::process::id()));
            let is_free = std::fs::write(&elsewhere, "").is_ok();
            let _ = std::fs::remove_file(&elsewhere);
            assert_eq!(is_free, confined == Confinement::None, "{confined:?}");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let db = Db::open(&path.join("db"), true).await.unwrap();
                let packed = |n: usize| {
                    let text = PolicyText { text: n.to_string() };
                    Packed::of(&object::encode(&text).unwrap().1).unwrap()
                };
                let all: Vec<usize> = (0..OBJECTS).collect();
                for some in all.chunks(2000) {
                    db.put_packed(some.iter().copied().map(packed).collect()).await.unwrap();
                }
                db.close().await;
            });
        };
        // Of this process only that thread is confined, and those that it starts.
        std::thread::spawn(work).join().unwrap();
    }

    #[test]
    fn what_lies_elsewhere_by_a_link_belongs_to_the_station_and_its_configuration_is_only_read() {
        let dir = tempfile::tempdir().unwrap();
        let (station, other) = (dir.path().join("station"), dir.path().canonicalize().unwrap().join("other"));
        std::fs::create_dir_all(&station).unwrap();
        for folder in ["blobs", "db", "etc", "keys"] {
            std::fs::create_dir_all(other.join(folder)).unwrap();
        }
        std::fs::write(other.join("db/airlock.db"), "").unwrap();
        let text = "name = \"a\"\nside = \"isolated\"\n[network]\nca_file = \"ca.pem\"\n";
        std::fs::write(other.join("etc/airlock.toml"), text).unwrap();
        for (name, at) in [
            ("blobs", "blobs"),
            ("airlock.db", "db/airlock.db"),
            (CONFIG, "etc/airlock.toml"),
            ("keys", "keys"),
        ] {
            std::os::unix::fs::symlink(other.join(at), station.join(name)).unwrap();
        }
        let mut needs = Needs::default();
        let config = needs.station(&station).unwrap();
        assert_eq!(config.name, "a");
        needs.writes.sort();
        assert_eq!(needs.writes, [other.join("blobs"), other.join("db"), station.clone()]);
        needs.reads.sort();
        let mut reads = [other.join("etc/airlock.toml"), other.join("keys"), station.join("ca.pem")];
        reads.sort();
        assert_eq!(needs.reads, reads);
    }
}
