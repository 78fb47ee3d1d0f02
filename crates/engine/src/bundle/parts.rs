//! Folders that hold parts of one bundle, in any order and not necessarily all of them.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use airlock_core::bundle::{Base, BundledFile, MANIFEST, Manifest, Missing};
use airlock_core::cut::Whole;
use airlock_core::id::Digest;
use airlock_core::volume::{LABEL, Part, Ranges};
use airlock_store::{Intake, Store, StoreError};

use super::scan::Importing;
use super::signing::Trusted;
use super::target::{self, Target};
use super::verify::{self, Opened};
use super::{media, parity};
use crate::error::{Error, Result};
use crate::progress::{Progress, Unit};

/// What names of missing files take at most, in bytes: some 200,000 of them.
const NAMES_BYTES_MAX: usize = 12 << 20;
/// Smaller files are copied, also where they could share their blocks with what lies on the medium, in bytes.
const SHARED_MIN: u64 = 64 << 10;

/// Folders by the bundle that they belong to: the bundles of each stream in the order of their numbers, since a later one may build
/// on an earlier one. A folder that holds a whole bundle stands alone, and so does what is no bundle.
pub fn grouped(dirs: &[PathBuf]) -> Result<Vec<Vec<PathBuf>>> {
    let mut out: Vec<(Option<Digest>, Vec<PathBuf>)> = Vec::new();
    for dir in super::volumes::within(dirs) {
        let is_part = dir.join(LABEL).exists() && dir.join(MANIFEST).exists();
        let of = if is_part { Some(verify::manifest_hash(&dir)?) } else { None };
        match out.iter_mut().find(|(known, _)| of.is_some() && *known == of) {
            Some((_, group)) => group.push(dir),
            None => out.push((of, vec![dir])),
        }
    }
    if out.len() > 1 {
        // Nothing of it is believed yet: who says something wrong comes at a wrong turn.
        out.sort_by_cached_key(|(_, group)| group.first().and_then(|dir| verify::claimed_number(dir)));
    }
    Ok(out.into_iter().map(|(_, group)| group).collect())
}

/// What a bundle lacks still.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Incomplete {
    /// For the receipt.
    pub missing: Missing,
    /// How many files are missing.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What they are called, in the order of the manifest: all of them, unless that would be very long.
    pub names: Vec<String>,
    /// How many more there are, which the receipt names by their places.
    pub unnamed: u64,
}

/// What became of the files of a bundle.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    /// How many were rebuilt from parity.
    pub rebuilt: u64,
    /// Those that lie on a medium and were changed or are damaged, by path.
    pub damaged: Vec<PathBuf>,
    /// What is missing still.
    pub incomplete: Option<Incomplete>,
}

/// Parts of one bundle.
#[derive(Debug)]
pub(super) struct Parts {
    first: Opened,
    rest: Vec<Opened>,
}

impl Parts {
    /// Opens the folders of one bundle. All of them have the same manifest, so that it counts by what any of them proves: the copy of
    /// the signatures on another medium may be damaged, or from before the last person signed.
    pub fn open(dirs: &[PathBuf], trusted: Trusted) -> Result<Self> {
        let mut failed = None;
        for (at, dir) in dirs.iter().enumerate() {
            match verify::open(dir, trusted.clone()) {
                Ok(first) => {
                    let others = dirs.iter().enumerate().filter(|(other, _)| *other != at);
                    let rest = others.map(|(_, dir)| first.sibling(dir, None)).collect::<Result<_>>()?;
                    return Ok(Self { first, rest });
                }
                Err(e) => failed = failed.or(Some(e)),
            }
        }
        Err(failed.unwrap_or_else(none_named))
    }

    /// One of them, for what is the same in all.
    pub fn first(&self) -> &Opened {
        &self.first
    }

    /// The same without the list of their files.
    pub fn without_files(&self) -> Self {
        let manifest = Arc::new(self.manifest().without_files());
        let part = |part: &Opened| Opened { manifest: manifest.clone(), ..part.clone() };
        Self { first: part(&self.first), rest: self.rest.iter().map(part).collect() }
    }

    /// What all of them say.
    pub fn manifest(&self) -> &Manifest {
        &self.first.manifest
    }

    fn all(&self) -> impl Iterator<Item = &Opened> {
        std::iter::once(&self.first).chain(&self.rest)
    }

    fn is_whole(&self) -> bool {
        self.first.part == Part::Whole
    }

    /// See [`Opened::unless_gone`], of whichever medium it was.
    pub fn unless_gone(&self, error: Error) -> Error {
        self.all().fold(error, |error, part| part.unless_gone(error))
    }

    /// Refuses files that nobody listed. Of a whole bundle all must be there.
    pub fn check_listing(&self) -> Result<()> {
        match self.is_whole() {
            true => self.first.check_listing(),
            false => self.all().try_for_each(|part| part.strangers().map(|_| ())),
        }
    }

    /// A part whose objects, which each part has, are as they should be.
    pub fn with_objects(&self) -> Result<&Opened> {
        let mut failed = None;
        for part in self.all() {
            match part.check_few(|_| ()) {
                Ok(()) => return Ok(part),
                Err(e) => failed = failed.or(Some(part.unless_gone(e))),
            }
        }
        Err(failed.unwrap_or_else(|| Error::fault("no part was looked at")))
    }

    /// Takes in the files that the store does not have and that the parts have, then rebuilds what can be. Says what is missing
    /// still. A whole bundle lacks nothing: what is wrong with a file of it is an error.
    pub fn take_files(
        &self,
        (store, intake): (&Store, &Intake),
        asked: &Importing,
        progress: &Progress,
    ) -> Result<Taken> {
        let m = self.manifest();
        self.check_room(store, intake)?;
        let task = format!("taking in {}", self.first.dir.display());
        let task = progress.task(task, Unit::Bytes, Some(m.files.bytes()));
        let (missing, damaged) = (Mutex::new(BTreeSet::new()), Mutex::new(Vec::new()));
        media::each_of(
            m.files.len(),
            |at| m.files.size(at),
            |at, buffer| {
                let Some(file) = m.files.get(at) else { return Ok(()) };
                let hurt = match self.take((at, &file), (store, intake), buffer, &|n| task.add(n))? {
                    Took::Here(hurt) => hurt,
                    Took::Lacks(hurt) => {
                        missing.lock().unwrap_or_else(PoisonError::into_inner).insert(at);
                        hurt
                    }
                };
                damaged.lock().unwrap_or_else(PoisonError::into_inner).extend(hurt);
                Ok(())
            },
        )?;
        let missing = missing.into_inner().unwrap_or_else(PoisonError::into_inner);
        let damaged = damaged.into_inner().unwrap_or_else(PoisonError::into_inner);
        let lacked = missing.len();
        let missing = match missing.is_empty() {
            true => missing,
            false => {
                let all: Vec<&Opened> = self.all().collect();
                parity::rebuild(&all, m, (&store.blobs, intake), missing, progress)?
            }
        };
        if missing.is_empty() {
            target::join(m, (&store.blobs, intake), progress)?;
        }
        if asked.asks() && missing.is_empty() {
            self.ask(asked, (store, intake), progress)?;
        }
        let rebuilt = (lacked - missing.len()) as u64;
        Ok(Taken { rebuilt, damaged, incomplete: self.incomplete(&missing) })
    }

    /// Has those who are to be asked look at each file that came.
    pub fn ask(
        &self,
        asked: &Importing,
        (store, intake): (&Store, &Intake),
        progress: &Progress,
    ) -> Result<()> {
        let is_new = |whole: &Whole<'_>| store.blobs.find(whole.sha256).is_none();
        let m = self.manifest();
        let came: Vec<usize> = m.wholes().filter(is_new).map(|whole| whole.place).collect();
        let size = |place: &usize| m.whole(*place).map_or(0, |whole| whole.size);
        let total = came.iter().map(size).sum();
        let task = progress.task("having files looked at".to_owned(), Unit::Bytes, Some(total));
        media::each(&came, size, |place, _| {
            let Some(file) = m.whole(*place) else { return Ok(()) };
            asked.ask(&intake.path_of(file.sha256), &file.name)?;
            task.add(file.size);
            Ok(())
        })
    }

    /// The places of the files that neither the store has nor a run that was broken off had taken in.
    pub fn not_here(&self, store: &Store, intake: &Intake) -> Result<Vec<usize>> {
        let mut out = Vec::new();
        let mut buffer = vec![0; media::BUFFER_BYTES];
        for (at, file) in self.manifest().files.iter().enumerate() {
            let target = Target::of(self.manifest(), at, &file);
            if !target.is_stored(&store.blobs)? && !target.is_held(intake, &mut buffer)? {
                out.push(at);
            }
        }
        Ok(out)
    }

    /// There must be room for what the store does not have, and for the objects.
    pub fn check_room(&self, store: &Store, intake: &Intake) -> Result<()> {
        media::check_room(store.blobs.root(), self.room_needed(store, intake)?)
    }

    /// How much room that takes, in bytes.
    pub fn room_needed(&self, store: &Store, intake: &Intake) -> Result<u64> {
        let m = self.manifest();
        let objects = media::room_for(m.objects.iter().map(|f| f.size));
        Ok(target::room(m, store, intake)?.saturating_add(objects))
    }

    /// What is missing, by volumes where all of one is and files otherwise.
    fn incomplete(&self, missing: &BTreeSet<usize>) -> Option<Incomplete> {
        let m = self.manifest();
        let lacking: Vec<(u64, BundledFile<'_>)> =
            missing.iter().filter_map(|at| Some((*at as u64, m.files.get(*at)?))).collect();
        if lacking.is_empty() {
            return None;
        }
        let mut of_volumes: BTreeMap<u32, u64> = BTreeMap::new();
        for (_, file) in &lacking {
            *of_volumes.entry(file.volume.unwrap_or(0)).or_default() += 1;
        }
        let is_all = |(number, count): &(&u32, &u64)| {
            let volume = (**number as usize).checked_sub(1).and_then(|at| m.volumes.get(at));
            volume.is_some_and(|volume| volume.files == **count)
        };
        let volumes: Vec<u32> = of_volumes.iter().filter(is_all).map(|(number, _)| *number).collect();
        let apart = lacking.iter().filter(|(_, f)| f.volume.is_none_or(|number| !volumes.contains(&number)));
        let bundle = Base { number: m.number, manifest: self.first.digest };
        let mut room = NAMES_BYTES_MAX;
        let names = lacking.iter().map_while(|(_, file)| {
            room = room.checked_sub(file.name.len() + size_of::<String>())?;
            Some(file.name.to_string())
        });
        let names: Vec<String> = names.collect();
        Some(Incomplete {
            missing: Missing {
                bundle,
                volumes: volumes.clone(),
                files: Ranges::of(apart.map(|(at, _)| *at)),
            },
            files: lacking.len() as u64,
            bytes: lacking.iter().map(|(_, f)| f.size).fold(0, u64::saturating_add),
            unnamed: (lacking.len() - names.len()) as u64,
            names,
        })
    }
}

/// What a bundle brings, to be asked for by hash.
pub(super) struct Came {
    parts: Arc<Parts>,
    /// The places of its files, but of those that are parts, in the order of their hashes; nothing where they are listed in it.
    order: Option<Vec<u32>>,
    /// What parts make.
    made: BTreeSet<Digest>,
}

impl Came {
    /// Of a bundle.
    pub fn of(parts: Arc<Parts>) -> Self {
        let m = parts.manifest();
        let is_whole = |at: &u32| m.part_of(*at as usize).is_none();
        let hashes = (0..m.files.len()).map(|at| m.files.sha256(at));
        let order = match m.joined.is_empty() && hashes.is_sorted() {
            true => None,
            false => {
                let mut order: Vec<u32> = (0u32..).take(m.files.len()).filter(is_whole).collect();
                order.sort_unstable_by_key(|at| m.files.sha256(*at as usize));
                Some(order)
            }
        };
        let made = m.joined.iter().map(|joined| joined.sha256).collect();
        Self { order, made, parts }
    }

    /// Whether it brings these bytes.
    pub fn has(&self, sha256: Digest) -> bool {
        let files = &self.parts.manifest().files;
        let (mut least, mut most) = (0, self.order.as_ref().map_or(files.len(), Vec::len));
        while least < most {
            let middle = least + (most - least) / 2;
            let at = self.order.as_ref().map_or(middle, |order| order[middle] as usize);
            match files.sha256(at).cmp(&Some(sha256)) {
                Ordering::Less => least = middle + 1,
                Ordering::Equal => return true,
                Ordering::Greater => most = middle,
            }
        }
        self.made.contains(&sha256)
    }
}

impl From<Opened> for Parts {
    fn from(first: Opened) -> Self {
        Self { first, rest: Vec::new() }
    }
}

/// What became of a file, and where it was found to be hurt.
enum Took {
    Here(Vec<PathBuf>),
    Lacks(Vec<PathBuf>),
}

impl Parts {
    /// Takes in a file that the store does not have, from whichever part has it as it should be. Of a whole bundle it is
    /// checked all the same, and what is wrong with it is an error; of parts, others may have it.
    fn take(
        &self,
        (at, file): (usize, &BundledFile<'_>),
        (store, intake): (&Store, &Intake),
        buffer: &mut [u8],
        told: &(impl Fn(u64) + Sync),
    ) -> Result<Took> {
        // What is not written again must not be collected meanwhile.
        let target = Target::of(self.manifest(), at, file);
        if target.is_stored(&store.blobs)? {
            if self.is_whole() {
                self.first.check_file(&file.path.text(), file.size, file.sha256, buffer, told)?;
            }
            return Ok(Took::Here(Vec::new()));
        }
        if target.is_held(intake, buffer)? {
            told(file.size);
            return Ok(Took::Here(Vec::new()));
        }
        let mut hurt = Vec::new();
        for part in self.all().filter(|part| part.part.has_file(at as u64, file.volume)) {
            match from_medium(part, file, (&target, intake), buffer, told)? {
                Ok(()) => return Ok(Took::Here(hurt)),
                Err(e) if part.part == Part::Whole || !part.is_there() => return Err(e),
                // The medium is there and does not give the file: another may, and the rest of this one.
                Err(_) => hurt.push(part.dir.join(file.path.text())),
            }
        }
        Ok(Took::Lacks(hurt))
    }
}

/// Takes a file from a medium into the intake. The outer error is this station's, the inner one the medium's.
fn from_medium(
    part: &Opened,
    file: &BundledFile<'_>,
    (target, intake): (&Target, &Intake),
    buffer: &mut [u8],
    told: &(impl Fn(u64) + Sync),
) -> Result<Result<()>> {
    let mut incoming = target.begin(intake)?;
    let lying = match part.open(&file.path.text(), file.size) {
        Ok(lying) => lying,
        Err(error) => return Ok(Err(error)),
    };
    let is_shared = file.size >= SHARED_MIN && incoming.share(&lying, file.size, buffer, told)?;
    if !is_shared {
        let (path, mut own) = (part.dir.join(file.path.text()), None);
        let passed = media::pass(&lying, &path, buffer, |bytes| {
            told(bytes.len() as u64);
            incoming.write(bytes).map_err(|e| {
                let stop = Error::fault("this station cannot write");
                own = Some(e);
                stop
            })
        });
        if let Some(error) = own {
            return Err(error.into());
        }
        if let Err(error) = passed {
            return Ok(Err(error));
        }
    }
    match incoming.finish() {
        Ok(()) => Ok(Ok(())),
        Err(StoreError::Hash { .. }) => Ok(Err(verify::changed(&part.dir.join(file.path.text())))),
        Err(other) => Err(other.into()),
    }
}

/// The folders of one bundle, each held against the manifest of the first, so that none of another bundle is among them, and each by
/// its own signatures: whoever has only one of them later believes it by nothing else.
pub fn open(dirs: &[PathBuf], trusted: &Trusted) -> Result<Vec<Opened>> {
    let mut out: Vec<Opened> = Vec::new();
    for dir in dirs {
        let opened = match out.first() {
            Some(first) => first.sibling(dir, Some(trusted)),
            None => verify::open(dir, trusted.clone()),
        };
        out.push(match dirs.len() {
            1 => opened?,
            _ => opened.map_err(|e| e.while_(&dir.display().to_string()))?,
        });
    }
    if out.is_empty() { Err(none_named()) } else { Ok(out) }
}

fn none_named() -> Error {
    Error::usage("no folder is named").hint("name the bundle's folder")
}

/// Whether these parts of a bundle that has files claim neither a file nor parity: what verifies of them says nothing of any file.
pub fn hold_nothing(parts: &[Opened]) -> bool {
    let claims = |part: &Opened| match &part.part {
        Part::Files(places) => !places.is_empty(),
        // A volume of parity has no files, and is something.
        Part::Volume(number) => {
            let m = &part.manifest;
            let place = (*number as usize).saturating_sub(1);
            place >= m.volumes_of_files() || m.volumes.get(place).is_some_and(|volume| volume.files > 0)
        }
        Part::Whole => true,
    };
    parts.iter().all(|part| !part.manifest.files.is_empty() && !claims(part))
}

/// How many files of a bundle these parts of it claim together, and their bytes.
pub fn covered(parts: &[Opened]) -> (u64, u64) {
    let Some(first) = parts.first() else { return (0, 0) };
    let has =
        |(at, file): &(u64, BundledFile<'_>)| parts.iter().any(|part| part.part.has_file(*at, file.volume));
    let all = (0u64..).zip(first.manifest.files.iter()).filter(has);
    all.fold((0, 0), |(files, bytes): (u64, u64), (_, file)| (files + 1, bytes.saturating_add(file.size)))
}
