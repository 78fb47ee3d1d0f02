//! A bundle that is taken in, as it travels and as it is inside, and where its bytes are collected.

use std::sync::Arc;

use airlock_store::{Intake, Store};

use super::admission::{self, Entry, admission};
use super::parts::{Parts, Taken};
use super::scan::Importing;
use super::unseal::{self, Content};
use super::{media, target, unfinished};
use crate::error::{Error, Result, joined};
use crate::station::Station;
use crate::trust::Trust;

/// A bundle that is taken in.
#[derive(Clone)]
pub(super) struct Brought {
    /// As it travels.
    pub outer: Arc<Parts>,
    /// What is in it, where it is sealed.
    content: Option<Arc<Content>>,
}

impl Brought {
    /// As its recipient reads it.
    pub fn inner(&self) -> &Arc<Parts> {
        self.content.as_ref().map_or(&self.outer, |content| &content.parts)
    }

    /// All of it lies in the intakes: nobody asks any more for the list of what travelled, where that is something else.
    pub fn forget_travelled(&mut self) {
        if self.content.is_some() {
            self.outer = Arc::new(self.outer.without_files());
        }
    }
}

/// Whether a bundle may come in, and what is in it where it is sealed: that is held against all that any other is.
pub(super) async fn admit(
    station: &Station,
    outer: Arc<Parts>,
    trust: &Trust,
    may_go_back: bool,
) -> Result<(Entry, Brought)> {
    let entry = admission(station, outer.first(), trust, may_go_back).await?;
    if outer.manifest().sealed.is_none() && station.config.import.sealed {
        return Err(Error::unsafe_("the bundle is not sealed, and `[import] sealed` asks for that")
            .hint("have the sender seal it to what `airlock key identity` prints here"));
    }
    let (bundle, dir) = (outer.clone(), station.dir.clone());
    let open = move || unseal::open(&dir, &bundle);
    let content = joined(tokio::task::spawn_blocking(open).await).map_err(|e| outer.unless_gone(e))?;
    let Some(content) = content.map(Arc::new) else { return Ok((entry, Brought { outer, content: None })) };
    admission::check_names(&content.opened().manifest)?;
    let entry = admission(station, content.opened(), trust, may_go_back).await?;
    Ok((entry, Brought { outer, content: Some(content) }))
}

/// Where the bytes of a bundle are collected until all of them count.
pub(super) struct Intakes {
    /// What comes into the store.
    own: Intake,
    /// What travelled, where that is something else.
    sealed: Option<Intake>,
}

impl Intakes {
    /// Those of a bundle, with what came before. There must be room.
    pub fn open(store: &Store, bundle: &Brought) -> Result<Self> {
        let outer = bundle.outer.first();
        let collected = unfinished::intake(&store.blobs, &outer.digest.to_string(), outer)?;
        let Some(content) = &bundle.content else { return Ok(Self { own: collected, sealed: None }) };
        let own =
            unfinished::intake(&store.blobs, &format!("{}{}", outer.digest, unfinished::OPENED), outer)?;
        // What travelled stays until what was in it counts.
        let needed = bundle.outer.room_needed(store, &collected)? + content.parts.room_needed(store, &own)?;
        media::check_room(store.blobs.root(), needed)?;
        Ok(Self { own, sealed: Some(collected) })
    }

    /// Where it is collected as it travels.
    fn collected(&self) -> &Intake {
        self.sealed.as_ref().unwrap_or(&self.own)
    }

    /// What came waits for the rest.
    pub fn keep(self) -> Result<()> {
        match self.sealed {
            None => Ok(self.own.keep()?),
            Some(sealed) => {
                self.own.discard()?;
                Ok(sealed.keep()?)
            }
        }
    }

    /// Nothing of it stays.
    pub fn discard(self) -> Result<()> {
        self.own.discard()?;
        Ok(self.sealed.map_or(Ok(()), Intake::discard)?)
    }

    /// The bytes come into the store, as the bundle says that they are read. Gives where those lie that travelled, for when they count.
    pub fn commit(self, bundle: &Brought) -> Result<Option<Intake>> {
        let wholes = bundle.inner().manifest().wholes();
        self.own.commit(wholes.map(|whole| (target::number(whole.place), whole.sha256)))?;
        Ok(self.sealed)
    }
}

/// Collects the files, as far as they are there; when all are, those of a sealed bundle are opened.
pub(super) async fn collect(station: &Station, bundle: &Brought, intakes: &Arc<Intakes>) -> Result<Taken> {
    let (bundle, into) = (bundle.clone(), intakes.clone());
    let (store, progress) = (station.store.clone(), station.options.progress.clone());
    let asked = station.config.import.clone();
    let collect = move || {
        let Some(content) = &bundle.content else {
            return bundle.outer.take_files((&store, &into.own), &asked, &progress);
        };
        // Whoever looks at files is shown what is in them.
        let nobody = Importing::default();
        let taken = bundle.outer.take_files((&store, into.collected()), &nobody, &progress)?;
        if taken.incomplete.is_none() {
            content.take(&bundle.outer, (&store, into.collected(), &into.own), &asked, &progress)?;
        }
        Ok(taken)
    };
    joined(tokio::task::spawn_blocking(collect).await)
}
