//! Checking everything that lies here, and mending what can be mended.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde::Serialize;

use airlock_core::id::{Digest, Id};
use airlock_core::roles::Action;
use airlock_core::snapshot::Snapshot;
use airlock_store::RefChange;

use crate::boxed;
use crate::channel::{self, ref_name};
use crate::error::Result;
use crate::people;
use crate::progress::Unit;
use crate::scrub::{self, Checked};
use crate::station::Station;
use crate::walk::{self, Place, Walk};
use crate::{feeds, fetch, ledger, publish, trees};

/// How often indexes are rendered again when the channel is published in the meantime.
const TRIES: u32 = 3;
/// Objects that are checked at once.
const OBJECTS_AT_ONCE: usize = 2000;

/// What to check.
#[derive(Clone, Debug, Default)]
pub struct What {
    /// Only what these channels need; empty: everything.
    pub channels: Vec<String>,
    /// Mend what can be mended.
    pub repair: bool,
}

/// What is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The bytes of an artifact or an index.
    File,
    /// An object of the database.
    Object,
    /// The ledger.
    Ledger,
}

/// One damage.
#[derive(Clone, Debug, Serialize)]
pub struct Damage {
    /// Of what.
    pub kind: Kind,
    /// Its hash; none for the ledger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Digest>,
    /// In a sentence.
    pub problem: String,
    /// Where it is needed; nowhere: nothing refers to it.
    pub places: Vec<Place>,
    /// Whether it is mended.
    pub repaired: bool,
    /// What to do next, where it is not mended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What was found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Objects that were checked.
    pub objects: u64,
    /// Files that were read.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Entries of the ledger.
    pub ledger_entries: u64,
    /// What is wrong.
    pub damages: Vec<Damage>,
}

impl Report {
    /// Whether everything is, or is again, as it should be.
    pub fn is_clean(&self) -> bool {
        self.damages.iter().all(|damage| damage.repaired)
    }
}

/// Checks that every object and every file is what its name says, that everything that is needed is there, and that
/// the ledger is whole. Files whose bytes are wrong are set aside at once: they are not served any more.
#[boxed]
pub async fn fsck(station: &Station, what: &What) -> Result<Report> {
    for name in &what.channels {
        channel::find(station, name).await?;
    }
    if what.repair {
        people::allow(station, Action::Maintain, None).await?;
    }
    let mut report = Report::default();
    match ledger::verify(station, &[]).await {
        Ok(checked) => report.ledger_entries = checked.head.number,
        Err(e) if e.is_ours => return Err(e),
        Err(e) => report.damages.push(Damage {
            kind: Kind::Ledger,
            id: None,
            problem: e.message,
            places: Vec::new(),
            repaired: false,
            next: e.hint,
        }),
    }
    let (here, bad) = objects(station, &mut report).await?;
    let refs = station.store.db.refs("").await?;
    let is_wanted = |name: &str| {
        what.channels.is_empty()
            || Place::of(name).channel().is_some_and(|c| what.channels.iter().any(|w| w == c))
    };
    let mut walk = Walk::knowing(station, &here, bad.clone());
    match walk::roots(station, &refs, is_wanted).await {
        Ok(roots) => walk.go(roots.needs, true).await?,
        // The way to a snapshot may lead over what is damaged.
        Err(e) if bad.is_empty() => return Err(e),
        Err(_) => {}
    }
    note_objects(&mut report, &walk, &bad);
    files(station, what, &walk.blobs, &mut report).await?;
    if what.repair {
        repair(station, &mut report, bad.into_keys().collect()).await?;
    }
    Ok(report)
}

/// Checks every object against its name.
pub(crate) async fn objects(
    station: &Station,
    report: &mut Report,
) -> Result<(HashSet<Digest>, HashMap<Digest, String>)> {
    let db = &station.store.db;
    let ids: Vec<Digest> = db.inventory().await?.into_iter().map(|stored| stored.id).collect();
    let task = station.options.progress.task("checking objects", Unit::Objects, Some(ids.len() as u64));
    let mut bad = HashMap::new();
    for chunk in ids.chunks(OBJECTS_AT_ONCE) {
        let packed = db.get_packed(chunk).await?;
        report.objects += packed.len() as u64;
        let checked = trees::on_threads(station.options.threads, packed, |one| {
            Ok((one.digest(), walk::check(&one).err().map(|e| e.to_string())))
        });
        bad.extend(checked.await?.into_iter().filter_map(|(id, flaw)| Some((id, flaw?))));
        task.add(chunk.len() as u64);
    }
    Ok((ids.into_iter().collect(), bad))
}

fn note_objects(report: &mut Report, walk: &Walk<'_>, bad: &HashMap<Digest, String>) {
    let mut all: BTreeMap<Digest, (String, Vec<Place>)> =
        bad.iter().map(|(id, what)| (*id, (what.clone(), Vec::new()))).collect();
    for flaw in &walk.flaws {
        let what = flaw.what.clone().unwrap_or_else(|| "it is missing".to_owned());
        all.entry(flaw.id).or_insert((what, Vec::new())).1.push(flaw.place.clone());
    }
    for (id, (problem, mut places)) in all {
        places.sort();
        places.dedup();
        let next = match places.is_empty() {
            true => "nothing needs it; `airlock fsck --repair` removes it",
            false => "restore the database from a copy, or try `airlock fsck --repair`",
        };
        let next = Some(next.to_owned());
        report.damages.push(Damage {
            kind: Kind::Object,
            id: Some(id),
            problem,
            places,
            repaired: false,
            next,
        });
    }
}

/// Reads every file, and notes those that are wrong or missing.
async fn files(
    station: &Station,
    what: &What,
    needed: &HashMap<Digest, Vec<Place>>,
    report: &mut Report,
) -> Result<()> {
    let mut all = Vec::new();
    for folder in station.store.blobs.folders() {
        all.extend(folder?);
    }
    let here: HashSet<Digest> = all.iter().map(|lying| lying.digest).collect();
    all.retain(|lying| what.channels.is_empty() || needed.contains_key(&lying.digest));
    report.files = all.len() as u64;
    report.bytes = all.iter().map(|lying| lying.size).sum();
    let task = station.options.progress.task("reading files", Unit::Bytes, Some(report.bytes));
    let (task, at) = (Arc::new(task), station.clone());
    let ids: Vec<Digest> = all.iter().map(|lying| lying.digest).collect();
    let checked = trees::on_threads(station.options.threads, ids, move |digest| {
        Ok((digest, scrub::check(&at, digest, |n| task.add(n as u64))?))
    });
    let mut wrong: BTreeMap<Digest, String> = BTreeMap::new();
    for (digest, checked) in checked.await? {
        if let Checked::SetAside(path) = checked {
            wrong.insert(digest, format!("its bytes are damaged; they lie in {} now", path.display()));
        }
    }
    // It may have come while everything was read.
    let missing = needed.keys().filter(|id| !here.contains(id) && station.store.blobs.find(**id).is_none());
    wrong.extend(missing.map(|id| (*id, "it is missing".to_owned())));
    for (digest, problem) in wrong {
        let mut places = needed.get(&digest).cloned().unwrap_or_default();
        places.sort();
        let next = (!places.is_empty()).then(|| "run `airlock fsck --repair`".to_owned());
        let repaired = places.is_empty();
        report.damages.push(Damage { kind: Kind::File, id: Some(digest), problem, places, repaired, next });
    }
    Ok(())
}

/// Mends what can be mended: artifacts come from their source again, indexes are made again.
#[boxed]
async fn repair(station: &Station, report: &mut Report, bad: Vec<Digest>) -> Result<()> {
    let db = &station.store.db;
    // So that whoever has the right bytes can write them.
    db.remove_damaged(&bad).await?;
    let mut here: HashSet<Digest> = HashSet::new();
    let mut next: HashMap<Digest, String> = HashMap::new();
    let mut superseded: HashSet<Digest> = HashSet::new();
    repair_objects(station, report, &mut next).await?;
    for channel in channel::list(station).await? {
        let of_channel = |place: &&Place| place.channel() == Some(&*channel.name);
        let mut lost: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut ids: BTreeMap<String, Vec<Digest>> = BTreeMap::new();
        let of_index = beside_indexes(report, &channel.name);
        let mut index_files: Vec<Digest> = Vec::new();
        for damage in report.damages.iter().filter(|d| d.kind == Kind::File && !d.repaired) {
            for place in damage.places.iter().filter(of_channel) {
                match (&place.key, &place.file) {
                    (Some(key), Some(file)) => {
                        lost.entry(key.to_string()).or_default().insert(file.to_string());
                        ids.entry(file.to_string()).or_default().extend(damage.id);
                    }
                    _ => index_files.extend(damage.id),
                }
            }
        }
        if !lost.is_empty() {
            match fetch::again(station, &channel, &lost).await {
                Ok((came, failed)) => {
                    here.extend(came);
                    for (file, error) in failed {
                        let why = [Some(error.message), error.hint].into_iter().flatten().collect::<Vec<_>>();
                        next.extend(ids.get(&file).into_iter().flatten().map(|id| (*id, why.join("; "))));
                    }
                }
                Err(e) if e.is_ours => return Err(e),
                Err(e) => {
                    let why = e.hint.unwrap_or(e.message);
                    next.extend(ids.values().flatten().map(|id| (*id, why.clone())));
                }
            }
        }
        if !of_index.is_empty() || !index_files.is_empty() {
            match render_again(station, &channel.name).await {
                Ok(digests) => {
                    here.extend(digests.into_iter().chain(of_index));
                    superseded.extend(index_files);
                }
                Err(e) if e.is_ours && !e.is_content && !e.is_race => return Err(e),
                Err(e) => {
                    let why = e.hint.unwrap_or(e.message);
                    next.extend(of_index.into_iter().chain(index_files).map(|id| (id, why.clone())));
                }
            }
        }
    }
    // Two channels may have an index in common: it is mended when neither names it any more.
    let named = index_files(station).await?;
    here.extend(superseded.into_iter().filter(|id| !named.contains(id)));
    mark(station, report, &here, next).await?;
    let (found, mended) = (report.damages.len(), report.damages.iter().filter(|d| d.repaired).count());
    if found > 0 {
        let detail = serde_json::json!({"damages": found, "repaired": mended});
        station.commit(Vec::new(), "store.repair", "store", &detail).await?;
    }
    Ok(())
}

/// The files of indexes that any channel names.
async fn index_files(station: &Station) -> Result<HashSet<Digest>> {
    let mut named = HashSet::new();
    for channel in channel::list(station).await? {
        let at = station.store.db.find_ref(&ref_name(&channel.name, "rendered")).await?;
        let rendered = publish::find_rendered(station, at).await?;
        named.extend(rendered.iter().flat_map(|r| r.files.values()).map(|file| file.sha256));
    }
    Ok(named)
}

/// Says of each damage that it is mended, or else what to do next.
async fn mark(
    station: &Station,
    report: &mut Report,
    here: &HashSet<Digest>,
    mut next: HashMap<Digest, String>,
) -> Result<()> {
    let db = &station.store.db;
    for damage in report.damages.iter_mut().filter(|d| !d.repaired) {
        let Some(id) = damage.id else { continue };
        let is_here = match damage.kind {
            Kind::File => here.contains(&id) || station.store.blobs.find(id).is_some(),
            Kind::Object => {
                damage.places.is_empty() || here.contains(&id) || !db.present(&[id]).await?.is_empty()
            }
            Kind::Ledger => false,
        };
        if is_here {
            (damage.repaired, damage.next) = (true, None);
            station.store.blobs.forget_damaged(id);
        } else if let Some(why) = next.remove(&id) {
            damage.next = Some(why);
        }
    }
    Ok(())
}

/// The damaged objects that describe the indexes of a channel, and are made again with them.
fn beside_indexes(report: &Report, channel: &str) -> Vec<Digest> {
    let rendered = ref_name(channel, "rendered");
    let objects = report.damages.iter().filter(|d| d.kind == Kind::Object && !d.repaired);
    objects.filter(|d| d.places.iter().any(|place| *place.of == *rendered)).filter_map(|d| d.id).collect()
}

/// What is derived is made again; what a source can tell again is asked for at the next reading.
async fn repair_objects(
    station: &Station,
    report: &Report,
    next: &mut HashMap<Digest, String>,
) -> Result<()> {
    let db = &station.store.db;
    let mut forget: BTreeSet<String> = BTreeSet::new();
    let damaged = report.damages.iter().filter(|d| d.kind == Kind::Object && !d.places.is_empty());
    for (damage, place) in damaged.flat_map(|d| d.places.iter().map(move |place| (d, place))) {
        if &*place.of == feeds::INDEX {
            forget.insert(feeds::INDEX.to_owned());
        } else if let (Some(channel), Some(id)) = (place.channel(), damage.id)
            // What belongs to rendered files is made again with them.
            && *place.of != *ref_name(channel, "rendered")
        {
            forget.insert(ref_name(channel, "mirror"));
            let why = format!(
                "run `airlock sync {channel}`, which reads its source anew, then `airlock fsck` again; if it stays, restore the database from a copy"
            );
            next.insert(id, why);
        }
    }
    let mut changes = Vec::new();
    for name in forget {
        if let Some(from) = db.find_ref(&name).await? {
            changes.push(RefChange { name, from: Some(from), to: None });
        }
    }
    if !changes.is_empty() {
        let names: Vec<&String> = changes.iter().map(|change| &change.name).collect();
        let detail = serde_json::json!({ "made_anew": names });
        station.commit(changes, "store.repair", "store", &detail).await?;
    }
    if report.damages.iter().any(|d| d.places.iter().any(|place| &*place.of == feeds::INDEX)) {
        feeds::rebuild(station).await?;
    }
    Ok(())
}

/// Renders the indexes of the newest snapshot again, and lets the channel name these: what was known of its files may have grown
/// since they were rendered, and another program may have written other bytes.
async fn render_again(station: &Station, channel: &str) -> Result<Vec<Digest>> {
    let db = &station.store.db;
    let mut tries = 0;
    loop {
        // At one moment: what is rendered belongs to this snapshot, and stands in the place of this object.
        let refs = db.refs(&ref_name(channel, "")).await?;
        let at = |part: &str| refs.get(&ref_name(channel, part)).copied();
        let Some(id) = at("snapshot").map(Id::<Snapshot>::new) else { return Ok(Vec::new()) };
        let (rendered, _) = publish::rendered(station, &db.get(id).await?, None).await?;
        tries += 1;
        match publish::replace_rendered(station, channel, (id, at("rendered")), &rendered).await {
            // A newer snapshot was published in the meantime.
            Err(e) if e.is_race && tries < TRIES => {}
            replaced => {
                replaced?;
                return Ok(rendered.files.values().map(|file| file.sha256).collect());
            }
        }
    }
}
