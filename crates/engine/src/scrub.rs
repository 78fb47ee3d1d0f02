//! Looking after the bytes that lie here: they are read again, slowly, round after round, so that a disk that rots is
//! noticed before the last good copy is gone.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use airlock_core::id::Digest;

use crate::error::{Result, file_error, joined};
use crate::station::Station;

/// Bytes that are read per second unless `bytes_per_second` says otherwise: 700 GB a day.
const BYTES_PER_SECOND: u64 = 8 << 20;
/// The pause after a round, and before it is tried again whether another process looks after this station.
const PAUSE: Duration = Duration::from_secs(3600);
/// How often the place is written down.
const NOTED_EVERY: Duration = Duration::from_secs(30);

/// `[scrub]` of `airlock.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scrub {
    /// How fast `serve` reads what lies here again; 0: not at all.
    pub bytes_per_second: u64,
}

impl Default for Scrub {
    fn default() -> Self {
        Self { bytes_per_second: BYTES_PER_SECOND }
    }
}

impl Scrub {
    /// Whether it says nothing.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What became of one blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// Its bytes are right, or it is not here.
    Fine,
    /// They were wrong: it lies there now, and is not served any more.
    SetAside(PathBuf),
}

/// Reads a blob, and sets it aside if its bytes are wrong or the disk cannot give them. `each` hears of what was read.
pub fn check(station: &Station, digest: Digest, each: impl FnMut(usize)) -> Result<Checked> {
    /// `EIO`: the disk cannot read it.
    const UNREADABLE: i32 = 5;
    let blobs = &station.store.blobs;
    match blobs.rehash(digest, each) {
        Ok(found) if found.is_none_or(|found| found == digest) => Ok(Checked::Fine),
        Err(airlock_store::StoreError::File { source, .. }) if source.raw_os_error() == Some(UNREADABLE) => {
            Ok(Checked::SetAside(blobs.set_aside(digest)?))
        }
        Err(e) => Err(e.into()),
        Ok(_) => Ok(Checked::SetAside(blobs.set_aside(digest)?)),
    }
}

/// Reads everything again and again for as long as it is let, and tells of what is wrong. One process does it at a
/// time.
pub async fn run(station: Station, tell: impl Fn(&str)) {
    if station.config.scrub.bytes_per_second == 0 {
        return;
    }
    loop {
        if let Ok(_lease) = station.lease("scrub", "scrub").await
            && let Err(e) = round(&station, &tell).await
        {
            tell(&format!("error: looking after the stored files: {e}"));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// One round, from where the last one stopped. Gives how many blobs were set aside.
///
/// # Errors
///
/// Those of the disk.
pub async fn round(station: &Station, tell: &impl Fn(&str)) -> Result<u64> {
    let place = station.dir.join("cache").join("scrub");
    let after: Option<Digest> =
        std::fs::read_to_string(&place).ok().and_then(|text| text.trim().parse().ok());
    let mut pace = Pace::new(station.config.scrub.bytes_per_second);
    let mut noted = Instant::now();
    let mut damaged = 0;
    for folder in station.store.blobs.folders() {
        for lying in folder? {
            if after.is_some_and(|after| lying.digest <= after) {
                continue;
            }
            let at = station.clone();
            let work = move || check(&at, lying.digest, |n| pace.wait(n)).map(|checked| (checked, pace));
            let checked;
            (checked, pace) = joined(tokio::task::spawn_blocking(work).await)?;
            if let Checked::SetAside(path) = checked {
                damaged += 1;
                tell(&format!(
                    "error: the bytes of {} were damaged on the disk; they lie in {} now and are not served. Run `airlock fsck --repair`",
                    lying.digest,
                    path.display()
                ));
            }
            if noted.elapsed() > NOTED_EVERY {
                noted = Instant::now();
                note(&place, lying.digest)?;
            }
        }
    }
    // The next round begins at the beginning.
    match std::fs::remove_file(&place) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(file_error(&place)(e)),
        _ => Ok(damaged),
    }
}

fn note(place: &PathBuf, digest: Digest) -> Result<()> {
    if let Some(folder) = place.parent() {
        std::fs::create_dir_all(folder).map_err(file_error(folder))?;
    }
    std::fs::write(place, format!("{digest}\n")).map_err(file_error(place))
}

/// Keeps reading at so many bytes per second.
struct Pace {
    bytes_per_second: u64,
    ahead: Duration,
}

impl Pace {
    const fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, ahead: Duration::ZERO }
    }

    /// Waits as long as so many bytes should have taken. Reading itself takes time as well; that it is slower than
    /// stated does no harm.
    fn wait(&mut self, bytes: usize) {
        if self.bytes_per_second == 0 {
            return;
        }
        let nanos = (bytes as u64).saturating_mul(1_000_000_000) / self.bytes_per_second;
        self.ahead += Duration::from_nanos(nanos);
        // Many small waits would be longer than they are.
        if self.ahead >= Duration::from_millis(10) {
            std::thread::sleep(std::mem::take(&mut self.ahead));
        }
    }
}
