//! Who may come in, asked anew for each manifest: by what is trusted now, and by what `import` would say.

use std::collections::BTreeMap;
use std::path::Path;

use tokio::runtime::Handle;

use super::members::Members;
use super::seal::Pair;
use crate::bundle::admission;
use crate::bundle::signing::Trusted;
use crate::bundle::verify;
use crate::error::Result;
use crate::station::Station;
use crate::trust;

/// Senders, by the name that they have in packets.
pub(super) type Pairs = BTreeMap<[u8; 4], Pair>;

/// Holds manifests against what a station trusts and remembers at that moment. It is asked from threads that may wait.
#[derive(Clone)]
pub(super) struct Door {
    station: Station,
    runtime: Handle,
}

impl Door {
    /// The door of a station. Called where its runtime runs.
    pub fn new(station: &Station) -> Self {
        Self { station: station.clone(), runtime: Handle::current() }
    }

    /// Whose word counts at this moment.
    pub fn trusted(&self) -> Result<Trusted> {
        Trusted::of(&self.runtime.block_on(trust::list(&self.station))?)
    }

    /// Whose packets are believed at this moment, by the name that they have there.
    pub fn pairs(&self) -> Result<Pairs> {
        let trusted = self.trusted()?;
        let known = trusted.packet_keys().iter().filter_map(|key| Pair::receiving(&self.station.key, *key));
        Ok(known.map(|pair| (pair.sender_id(), pair)).collect())
    }

    /// Opens a bundle of which manifest and signatures lie in a folder.
    ///
    /// # Errors
    ///
    /// Nobody who is trusted signed it, or `import` would refuse it whatever else comes.
    pub fn open(&self, dir: &Path) -> Result<Members> {
        let trusted = self.runtime.block_on(trust::list(&self.station))?;
        let opened = verify::open(dir, Trusted::of(&trusted)?)?;
        Members::check(&opened)?;
        self.runtime.block_on(admission::may_wait(&self.station, trusted, &opened))?;
        Members::of(opened)
    }
}
