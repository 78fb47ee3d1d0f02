//! Going through everything that something needs, each object once, in batches on all threads.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde::Serialize;
use serde::ser::SerializeMap as _;

use airlock_core::id::Digest;
use airlock_core::object::{self, ObjectError};
use airlock_store::{Packed, StoreError};

use crate::bundle::ExportState;
use crate::channel::ref_name;
use crate::error::{Error, Result};
use crate::graph::{self, Kind, Named, Role};
use crate::progress::{Task, Unit};
use crate::station::Station;
use crate::{retention, trees};

/// Objects that are read at once.
const AT_ONCE: usize = 1000;

/// Where something is needed, for people.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The ref, or what stands for one.
    pub of: Arc<str>,
    /// The shard key, or another key of a tree.
    pub key: Option<Arc<str>>,
    /// The file.
    pub file: Option<Arc<str>>,
}

impl Serialize for Place {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in
            [("of", Some(&self.of)), ("key", self.key.as_ref()), ("file", self.file.as_ref())]
        {
            if let Some(value) = value {
                map.serialize_entry(name, &**value)?;
            }
        }
        map.end()
    }
}

impl Place {
    /// A place that is a ref.
    pub fn of(name: &str) -> Self {
        Self { of: name.into(), key: None, file: None }
    }

    /// The channel, if it is one's.
    pub fn channel(&self) -> Option<&str> {
        Some(self.of.strip_prefix("channel/")?.rsplit_once('/')?.0)
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.of)?;
        if let Some(key) = &self.key {
            write!(f, ", {key}")?;
        }
        if let Some(file) = &self.file {
            write!(f, ", {file}")?;
        }
        Ok(())
    }
}

/// An object that is needed.
#[derive(Clone, Debug)]
pub(crate) struct Need {
    pub id: Digest,
    pub role: Role,
    pub place: Place,
}

/// What is wrong with an object that is needed.
#[derive(Clone, Debug)]
pub(crate) struct Flaw {
    pub id: Digest,
    pub place: Place,
    /// In a sentence; none: it is missing.
    pub what: Option<String>,
}

/// A walk on its way.
pub(crate) struct Walk<'a> {
    station: &'a Station,
    /// Names of objects that are known to be here; others are asked for.
    here: &'a HashSet<Digest>,
    seen: HashSet<(Digest, Role)>,
    pub objects: HashSet<Digest>,
    /// Bytes that are needed, and the places, of which the first few are kept.
    pub blobs: HashMap<Digest, Vec<Place>>,
    pub flaws: Vec<Flaw>,
    task: Task,
    /// Objects that are known to be wrong, and how.
    bad: HashMap<Digest, String>,
}

/// Places that are kept of one blob.
const PLACES_MAX: usize = 4;

impl<'a> Walk<'a> {
    pub fn new(station: &'a Station, here: &'a HashSet<Digest>) -> Self {
        Self {
            station,
            here,
            seen: HashSet::new(),
            objects: HashSet::new(),
            blobs: HashMap::new(),
            flaws: Vec::new(),
            task: station.options.progress.task(
                "looking through objects",
                Unit::Objects,
                Some(here.len() as u64),
            ),
            bad: HashMap::new(),
        }
    }

    /// The same, where some objects are known to be wrong.
    pub fn knowing(station: &'a Station, here: &'a HashSet<Digest>, bad: HashMap<Digest, String>) -> Self {
        Self { bad, ..Self::new(station, here) }
    }

    /// Goes through what these need. What is missing is a flaw if it is `required`.
    pub async fn go(&mut self, needs: Vec<Need>, required: bool) -> Result<()> {
        let mut stack = needs;
        while !stack.is_empty() {
            let from = stack.len().saturating_sub(AT_ONCE);
            let mut batch = stack.split_off(from);
            batch.retain(|need| self.seen.insert((need.id, need.role)));
            self.task.add(batch.len() as u64);
            self.objects.extend(batch.iter().map(|need| need.id));
            for need in batch.iter().filter(|_| !self.bad.is_empty()) {
                if let Some(what) = self.bad.get(&need.id) {
                    let (id, place) = (need.id, need.place.clone());
                    self.flaws.push(Flaw { id, place, what: Some(what.clone()) });
                }
            }
            batch.retain(|need| !self.bad.contains_key(&need.id));
            let (leaves, batch): (Vec<Need>, Vec<Need>) =
                batch.into_iter().partition(|need| need.role.names_nothing());
            if required {
                self.look_for(leaves).await?;
            }
            stack.extend(self.read(batch, required).await?);
        }
        Ok(())
    }

    /// Notes which of these are missing.
    async fn look_for(&mut self, leaves: Vec<Need>) -> Result<()> {
        let asked: Vec<Need> = leaves.into_iter().filter(|need| !self.here.contains(&need.id)).collect();
        let ids: Vec<Digest> = asked.iter().map(|need| need.id).collect();
        let there = self.station.store.db.present(&ids).await?;
        let missing = asked.into_iter().filter(|need| !there.contains(&need.id));
        self.flaws.extend(missing.map(|need| Flaw { id: need.id, place: need.place, what: None }));
        Ok(())
    }

    /// Reads objects, and gives what they need.
    async fn read(&mut self, batch: Vec<Need>, required: bool) -> Result<Vec<Need>> {
        let ids: Vec<Digest> = batch.iter().map(|need| need.id).collect();
        let found: HashMap<Digest, Arc<Packed>> = self
            .station
            .store
            .db
            .get_packed(&ids)
            .await?
            .into_iter()
            .map(|p| (p.digest(), Arc::new(p)))
            .collect();
        let tasks: Vec<(Need, Option<Arc<Packed>>)> =
            batch.into_iter().map(|need| (found.get(&need.id).cloned(), need)).map(|(p, n)| (n, p)).collect();
        let threads = self.station.options.threads;
        let read = trees::on_threads(threads, tasks, |(need, packed)| {
            let named = packed.map(|packed| -> std::result::Result<Named, StoreError> {
                Ok(graph::named(need.role, &packed.unpack()?)?)
            });
            Ok((need, named))
        });
        let mut next = Vec::new();
        for (need, named) in read.await? {
            let named = match named {
                Some(Ok(named)) => named,
                Some(Err(error)) => {
                    self.flaws.push(Flaw { id: need.id, place: need.place, what: Some(error.to_string()) });
                    continue;
                }
                None if required => {
                    self.flaws.push(Flaw { id: need.id, place: need.place, what: None });
                    continue;
                }
                None => continue,
            };
            for (id, role, key) in named.objects {
                let mut place = need.place.clone();
                place.key = key.map(Arc::from).or(place.key);
                next.push(Need { id, role, place });
            }
            for (digest, file) in named.blobs {
                let places = self.blobs.entry(digest).or_default();
                if places.len() < PLACES_MAX {
                    let place = Place { file: Some(file.into()), ..need.place.clone() };
                    if !places.contains(&place) {
                        places.push(place);
                    }
                }
            }
        }
        Ok(next)
    }
}

/// The roots of everything that this station needs, and how it stands with snapshots.
pub(crate) struct Roots {
    pub needs: Vec<Need>,
    /// Channel to how many snapshots are kept.
    pub kept: BTreeMap<String, u64>,
    /// Snapshots that are kept no longer and are there still.
    pub dropped: Vec<Digest>,
}

/// The roots behind refs, of all or of those that are wanted.
pub(crate) async fn roots(
    station: &Station,
    refs: &BTreeMap<String, Digest>,
    wanted: impl Fn(&str) -> bool,
) -> Result<Roots> {
    let db = &station.store.db;
    let mut out = Roots { needs: Vec::new(), kept: BTreeMap::new(), dropped: Vec::new() };
    for (name, id) in refs.iter().filter(|(name, _)| wanted(name)) {
        let role = Role::of_ref(name).ok_or_else(|| {
            Error::usage(format!("this program does not know what `{name}` is for"))
                .hint("a newer airlock used this station: use that one")
        })?;
        let place = Place::of(name);
        if role == Role::Mark {
            continue;
        }
        out.needs.push(Need { id: *id, role, place: place.clone() });
        match role {
            Role::Kept => {
                let Some(channel) = place.channel() else { continue };
                let kept = retention::kept(station, channel, airlock_core::id::Id::new(*id)).await?;
                out.dropped.extend(retention::dropped(station, &kept).await?);
                out.kept.insert(channel.to_owned(), kept.len() as u64);
                for (id, snapshot) in kept.into_iter().skip(1) {
                    let mut place = Place::of(&ref_name(channel, "snapshot"));
                    place.of = format!("{} of {}", place.of, snapshot.inputs.now).into();
                    out.needs.push(Need { id: id.digest(), role: Role::Kept, place });
                }
            }
            Role::Plain(Kind::ExportState) => {
                let stream = name.strip_prefix("export/").unwrap_or(name);
                let state: ExportState = db.get(airlock_core::id::Id::new(*id)).await?;
                let need = |(id, role)| Need { id, role, place: place.clone() };
                let mut named = Named::default();
                for bundle in retention::exported(station, stream, state).await? {
                    let snapshots = bundle.channels.values().map(|id| (id.digest(), Role::Exported));
                    let answers = bundle.answers.map(|id| (id.digest(), Role::Plain(Kind::Answers)));
                    out.needs.extend(snapshots.chain(answers).map(need));
                    bundle.feeds.values().for_each(|head| named.add_feed(head));
                    bundle.held.values().for_each(|held| named.add_held(held));
                }
                out.needs.extend(named.objects.into_iter().map(|(id, role, _)| need((id, role))));
            }
            _ => {}
        }
    }
    // Clients cache indexes that name these.
    let named = db.named_shards(station.now().await?).await?;
    let need = |id| Need { id, role: Role::Plain(Kind::Shard), place: Place::of("names of rendered shards") };
    if wanted("names") {
        out.needs.extend(named.into_iter().map(need));
    }
    Ok(out)
}

/// Checks that bytes are the object of this name.
pub(crate) fn check(packed: &Packed) -> std::result::Result<(), StoreError> {
    let bytes = packed.unpack()?;
    object::check(packed.digest(), &bytes)?;
    match object::kind_of(&bytes).and_then(|kind| kind.parse::<Kind>().ok()) {
        Some(_) => Ok(()),
        None => Err(ObjectError::Kind {
            expected: "one that is known",
            found: object::kind_of(&bytes).unwrap_or_default(),
        }
        .into()),
    }
}
