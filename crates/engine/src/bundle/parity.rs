//! Parity across volumes: writing it, and rebuilding what is lost. `airlock_core::volume` says what it is.
//!
//! ```text
//! store --> stream of volume 1 --\                           /--> parity volume 1
//! store --> stream of volume 2 ---+--> rows --> Reed-Solomon +--> parity volume 2
//! store --> stream of volume 3 --/                           \--> ...
//! ```
//!
//! Rebuilding takes the streams from what came already, the parity from the medium, and writes what is missing into the intake,
//! where it counts as far as it hashes to what the manifest says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;

use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};
use sha2::{Digest as _, Sha256};

use airlock_core::bundle::Manifest;
use airlock_core::id::Digest;
use airlock_core::volume::{PARITY_FILE_BYTES, Parity, ParityFile, SHARD_BYTES, Volume, parity_path};
use airlock_store::{Blobs, Incoming, Intake};

use super::media;
use super::source::{Bytes, Source, Sources};
use super::target::{self, Target};
use super::verify::Opened;
use super::write::Folder;
use crate::error::{Error, Result, file_error};
use crate::progress::{Progress, Unit};

/// What is read of one stream at once, in bytes.
const STREAM_BUFFER_BYTES: usize = 256 << 10;

/// A file of a stream.
#[derive(Clone, Copy, Debug)]
struct Member {
    /// Where it begins in the stream.
    first: u64,
    /// Its bytes.
    size: u64,
    /// Its place in the manifest's list.
    at: u32,
}

impl Member {
    /// Where it ends in the stream.
    fn end(&self) -> u64 {
        self.first + self.size
    }

    /// Its place.
    fn place(&self) -> usize {
        self.at as usize
    }
}

/// The files of each volume in the order of its stream.
fn streams(manifest: &Manifest) -> Vec<Vec<Member>> {
    let mut out: Vec<Vec<Member>> = vec![Vec::new(); manifest.volumes_of_files()];
    let mut ends = vec![0u64; out.len()];
    for (at, file) in (0u32..).zip(manifest.files.iter()) {
        let volume = file.volume.and_then(|v| (v as usize).checked_sub(1));
        let Some((stream, end)) = volume.and_then(|v| Some((out.get_mut(v)?, ends.get_mut(v)?))) else {
            continue;
        };
        stream.push(Member { first: *end, size: file.size, at });
        *end = end.saturating_add(file.size);
    }
    out
}

/// A stream that is read row by row. Files are opened when their turn comes.
struct Stream<'a> {
    members: &'a [Member],
    next: usize,
    open: Option<Reading>,
}

/// A file of a stream that is open.
struct Reading {
    /// Where it begins in the stream.
    first: u64,
    /// How far it was read.
    at: u64,
    reader: BufReader<Bytes>,
    path: PathBuf,
}

impl<'a> Stream<'a> {
    fn new(members: &'a [Member]) -> Self {
        Self { members, next: 0, open: None }
    }

    /// Fills a shard with what the stream has from `start` on, and zeros where it has nothing more. `find` says where a file
    /// lies; where it says nothing, that stretch stays zero.
    fn fill(
        &mut self,
        start: u64,
        shard: &mut [u8],
        find: &impl Fn(&Member) -> Option<Source>,
    ) -> Result<()> {
        shard.fill(0);
        let end = start + shard.len() as u64;
        while let Some(member) = self.members.get(self.next) {
            let (first, last) = (member.first, member.end());
            if last <= start {
                self.next += 1;
                continue;
            }
            if first >= end {
                break;
            }
            let (from, to) = (start.max(first), end.min(last));
            if let Some(part) = shard.get_mut(index(from - start)..index(to - start)) {
                self.read(member, from - first, part, find)?;
            }
            if last > end {
                break;
            }
            self.next += 1;
        }
        Ok(())
    }

    fn read(
        &mut self,
        member: &Member,
        at: u64,
        part: &mut [u8],
        find: &impl Fn(&Member) -> Option<Source>,
    ) -> Result<()> {
        let first = member.first;
        if self.open.as_ref().is_none_or(|open| open.first != first || open.at != at) {
            let Some(source) = find(member) else { return Ok(()) };
            let reader = BufReader::with_capacity(STREAM_BUFFER_BYTES, source.open_at(at)?);
            self.open = Some(Reading { first, at, reader, path: source.path().to_owned() });
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        open.at += part.len() as u64;
        open.reader.read_exact(part).map_err(file_error(&open.path))
    }
}

/// Lengths within a shard, which are small.
fn index(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

fn failed(error: reed_solomon_simd::Error) -> Error {
    Error::fault(format!("parity cannot be computed: {error}"))
}

/// A parity volume that is being written, in files of at most so many bytes.
struct Sink<'a> {
    folder: &'a Folder,
    volume: u32,
    limit: u64,
    open: Option<(File, PathBuf, Sha256, u64)>,
    files: Vec<ParityFile>,
}

impl Sink<'_> {
    fn write(&mut self, shard: &[u8]) -> Result<()> {
        if self.open.as_ref().is_some_and(|(_, _, _, size)| size + shard.len() as u64 > self.limit) {
            self.close()?;
        }
        if self.open.is_none() {
            let path = self.folder.dir().join(parity_path(self.volume, self.files.len()));
            self.open = Some((media::create(&path)?, path, Sha256::new(), 0));
        }
        let Some((file, path, hasher, size)) = &mut self.open else { return Ok(()) };
        hasher.update(shard);
        *size += shard.len() as u64;
        file.write_all(shard).map_err(file_error(&*path))
    }

    fn close(&mut self) -> Result<()> {
        let Some((file, path, hasher, size)) = self.open.take() else { return Ok(()) };
        file.sync_data().map_err(file_error(&path))?;
        let sha256 = Digest::from_bytes(hasher.finalize().into());
        let path = parity_path(self.volume, self.files.len());
        self.files.push(ParityFile { path, sha256, size, volume: self.volume });
        Ok(())
    }
}

/// Computes the parity of a bundle that is laid out and writes it into these folders, in files of `limit` bytes at most. Gives the
/// manifest with it.
pub(super) fn write(
    folders: &[Folder],
    sources: &Sources,
    mut manifest: Manifest,
    limit: u64,
    progress: &Progress,
) -> Result<Manifest> {
    let (parity, volumes) = {
        let members = streams(&manifest);
        let longest = manifest.volumes.iter().map(|volume| volume.bytes).max().unwrap_or(0);
        let shard = SHARD_BYTES as usize;
        let mut encoder = ReedSolomonEncoder::new(members.len(), folders.len(), shard).map_err(failed)?;
        let mut reading: Vec<Stream<'_>> = members.iter().map(|members| Stream::new(members)).collect();
        let mut sinks = sinks(folders, manifest.volumes.len(), limit.min(PARITY_FILE_BYTES))?;
        let find = |member: &Member| sources.find(&manifest.files.get(member.place())?);
        let task = progress.task("computing parity".to_owned(), Unit::Bytes, Some(longest));
        let mut buffer = vec![0; shard];
        for row in 0..longest.div_ceil(u64::from(SHARD_BYTES)) {
            for stream in &mut reading {
                stream.fill(row * u64::from(SHARD_BYTES), &mut buffer, &find)?;
                encoder.add_original_shard(&buffer).map_err(failed)?;
            }
            let encoded = encoder.encode().map_err(failed)?;
            for (sink, shard) in sinks.iter_mut().zip(encoded.recovery_iter()) {
                sink.write(shard)?;
            }
            task.add(u64::from(SHARD_BYTES));
        }
        sinks.iter_mut().try_for_each(Sink::close)?;
        let files: Vec<Vec<ParityFile>> = sinks.into_iter().map(|sink| sink.files).collect();
        let of = |files: &Vec<ParityFile>| Volume {
            bytes: files.iter().map(|f| f.size).sum(),
            files: files.len() as u64,
        };
        let volumes: Vec<Volume> = files.iter().map(of).collect();
        let count = u32::try_from(files.len()).unwrap_or(u32::MAX);
        let files = files.into_iter().flatten().collect();
        (Parity { files, shard_bytes: SHARD_BYTES, volumes: count }, volumes)
    };
    manifest.parity = Some(parity);
    manifest.volumes.extend(volumes);
    Ok(manifest)
}

fn sinks(folders: &[Folder], before: usize, limit: u64) -> Result<Vec<Sink<'_>>> {
    let mut out = Vec::new();
    for (at, folder) in folders.iter().enumerate() {
        let path = folder.dir().join("parity");
        std::fs::create_dir_all(&path).map_err(file_error(&path))?;
        let volume = u32::try_from(before + at + 1).unwrap_or(u32::MAX);
        out.push(Sink { folder, volume, limit, open: None, files: Vec::new() });
    }
    Ok(out)
}

/// What parity volumes give back, as far as their files are what the manifest says.
struct Shards<'a> {
    /// Of each parity volume: where each of its files begins in its stream, and where it lies if it is good.
    files: Vec<Vec<(u64, &'a ParityFile, Option<PathBuf>)>>,
    bytes: u64,
}

impl<'a> Shards<'a> {
    /// Hashes the parity of these parts: what is damaged is not used.
    fn of(parts: &[&Opened], manifest: &'a Manifest, parity: &'a Parity) -> Self {
        let first = manifest.volumes_of_files() as u64 + 1;
        let mut files: Vec<Vec<(u64, &ParityFile, Option<PathBuf>)>> =
            vec![Vec::new(); parity.volumes as usize];
        let mut buffer = vec![0; media::BUFFER_BYTES];
        for file in &parity.files {
            let Some(of) = u64::from(file.volume).checked_sub(first).and_then(|at| files.get_mut(index(at)))
            else {
                continue;
            };
            let begins = of.last().map_or(0, |(begins, before, _)| begins + before.size);
            let is_good = |part: &&&Opened| {
                part.part.has_parity(file)
                    && part.check_file(&file.path, file.size, file.sha256, &mut buffer, |_| ()).is_ok()
            };
            let path = parts.iter().find(is_good).map(|part| part.dir.join(&file.path));
            of.push((begins, file, path));
        }
        Self { files, bytes: u64::from(parity.shard_bytes) }
    }

    /// The shard of a row on one parity volume, if it is there.
    fn read(&self, volume: usize, row: u64, shard: &mut [u8]) -> Result<bool> {
        let start = row * self.bytes;
        let (mut done, files) = (0usize, self.files.get(volume).map_or(&[][..], Vec::as_slice));
        // A shard may end in the next file.
        while done < shard.len() {
            let at = start + done as u64;
            let holds = |(begins, file, _): &&(u64, &ParityFile, Option<PathBuf>)| {
                *begins <= at && at < begins + file.size
            };
            let Some((begins, file, Some(path))) = files.iter().find(holds) else { return Ok(false) };
            let length = index((begins + file.size - at).min((shard.len() - done) as u64));
            let mut source = File::open(path).map_err(file_error(path))?;
            source.seek(SeekFrom::Start(at - begins)).map_err(file_error(path))?;
            let Some(part) = shard.get_mut(done..done + length) else { return Ok(false) };
            source.read_exact(part).map_err(file_error(path))?;
            done += length;
        }
        Ok(true)
    }
}

/// Rebuilds, as far as parity among these parts allows, the files at these places of the manifest's list, into the intake. All
/// others must be in the store or in the intake. Gives the places of what is missing still.
pub(super) fn rebuild(
    parts: &[&Opened],
    manifest: &Manifest,
    (blobs, intake): (&Blobs, &Intake),
    missing: BTreeSet<usize>,
    progress: &Progress,
) -> Result<BTreeSet<usize>> {
    let Some(parity) = &manifest.parity else { return Ok(missing) };
    let shards = Shards::of(parts, manifest, parity);
    if shards.files.iter().flatten().all(|(_, _, path)| path.is_none()) {
        return Ok(missing);
    }
    let members = streams(manifest);
    let size = index(shards.bytes);
    let decoder = ReedSolomonDecoder::new(members.len(), parity.volumes as usize, size).map_err(failed)?;
    let reading = members.iter().map(|members| Stream::new(members)).collect();
    let find = |member: &Member| goes(manifest, member)?.find(blobs, intake);
    let mut rebuilding = Rebuilding {
        members: &members,
        reading,
        decoder,
        manifest,
        intake,
        missing,
        open: BTreeMap::new(),
        lost: BTreeSet::new(),
    };
    let longest = manifest.volumes.iter().map(|volume| volume.bytes).max().unwrap_or(0);
    let task = progress.task("rebuilding from parity".to_owned(), Unit::Bytes, Some(longest));
    for row in 0..longest.div_ceil(shards.bytes) {
        let lacking = rebuilding.lacking(row * shards.bytes, shards.bytes);
        if !lacking.is_empty() {
            rebuilding.row(row, &lacking, &shards, &find)?;
        }
        task.add(shards.bytes);
    }
    rebuilding.finish()
}

/// Where a file of a stream goes.
fn goes(manifest: &Manifest, member: &Member) -> Option<Target> {
    Some(Target::of(manifest, member.place(), &manifest.files.get(member.place())?))
}

struct Rebuilding<'a> {
    members: &'a [Vec<Member>],
    reading: Vec<Stream<'a>>,
    decoder: ReedSolomonDecoder,
    manifest: &'a Manifest,
    intake: &'a Intake,
    /// What is missing, by place.
    missing: BTreeSet<usize>,
    /// What is being rebuilt.
    open: BTreeMap<usize, Incoming<'a>>,
    /// What cannot be rebuilt.
    lost: BTreeSet<usize>,
}

impl Rebuilding<'_> {
    /// The volumes that lack something in a row.
    fn lacking(&self, start: u64, length: u64) -> Vec<usize> {
        let lacks = |volume: &usize| self.touched(*volume, start, length).next().is_some();
        (0..self.members.len()).filter(lacks).collect()
    }

    /// Rebuilds one row of the volumes that lack something in it.
    fn row(
        &mut self,
        row: u64,
        lacking: &[usize],
        shards: &Shards<'_>,
        find: &impl Fn(&Member) -> Option<Source>,
    ) -> Result<()> {
        let start = row * shards.bytes;
        let mut shard = vec![0; index(shards.bytes)];
        self.decoder.reset(self.members.len(), shards.files.len(), shard.len()).map_err(failed)?;
        let mut had = 0;
        for volume in 0..shards.files.len() {
            if had < lacking.len() && shards.read(volume, row, &mut shard)? {
                self.decoder.add_recovery_shard(volume, &shard).map_err(failed)?;
                had += 1;
            }
        }
        if had < lacking.len() {
            for volume in lacking {
                let touched: Vec<usize> =
                    self.touched(*volume, start, shards.bytes).map(Member::place).collect();
                self.lost.extend(touched);
            }
            return Ok(());
        }
        for (volume, stream) in self.reading.iter_mut().enumerate() {
            if !lacking.contains(&volume) {
                stream.fill(start, &mut shard, find)?;
                self.decoder.add_original_shard(volume, &shard).map_err(failed)?;
            }
        }
        let restored: Vec<(usize, Vec<u8>)> = {
            let decoded = self.decoder.decode().map_err(failed)?;
            decoded.restored_original_iter().map(|(volume, bytes)| (volume, bytes.to_vec())).collect()
        };
        restored.into_iter().try_for_each(|(volume, bytes)| self.hand_out(volume, start, &bytes))
    }

    /// The missing files of a volume that have bytes in a row.
    fn touched(&self, volume: usize, start: u64, length: u64) -> impl Iterator<Item = &Member> {
        let members = self.members.get(volume).map_or(&[][..], Vec::as_slice);
        let from = members.partition_point(|member| member.end() <= start);
        let members = members.get(from..).unwrap_or_default();
        members
            .iter()
            .take_while(move |member| member.first < start + length)
            .filter(|member| member.size > 0 && self.missing.contains(&member.place()))
    }

    /// Gives the bytes of a rebuilt shard to the files that they belong to.
    fn hand_out(&mut self, volume: usize, start: u64, bytes: &[u8]) -> Result<()> {
        let end = start + bytes.len() as u64;
        let touched: Vec<Member> = self.touched(volume, start, bytes.len() as u64).copied().collect();
        for member in touched {
            let (first, at) = (member.first, member.place());
            if self.lost.contains(&at) {
                continue;
            }
            let (from, to) = (start.max(first), end.min(member.end()));
            let part = bytes.get(index(from - start)..index(to - start)).unwrap_or_default();
            if from == first
                && let Some(target) = goes(self.manifest, &member)
            {
                self.open.insert(at, target.begin(self.intake)?);
            }
            if let Some(incoming) = self.open.get_mut(&at) {
                incoming.write(part)?;
            }
            if to == member.end()
                && let Some(incoming) = self.open.remove(&at)
            {
                // What hashes to something else stays missing.
                match incoming.finish() {
                    Ok(()) => drop(self.missing.remove(&at)),
                    Err(airlock_store::StoreError::Hash { .. }) => drop(self.lost.insert(at)),
                    Err(e) => return Err(e.into()),
                }
            }
        }
        Ok(())
    }

    /// Empty files are what is left to make.
    fn finish(mut self) -> Result<BTreeSet<usize>> {
        for place in self.members.iter().flatten().filter(|member| member.size == 0).map(Member::place) {
            let Some(sha256) = self.manifest.files.sha256(place) else { continue };
            if self.missing.contains(&place)
                && self.intake.begin((target::number(place), sha256))?.finish().is_ok()
            {
                self.missing.remove(&place);
            }
        }
        Ok(self.missing)
    }
}
