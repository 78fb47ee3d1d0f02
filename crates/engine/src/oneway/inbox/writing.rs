//! One file that is coming.

use std::fs::File;
use std::io::Write as _;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use airlock_core::bundle::{MANIFEST, MANIFEST_BYTES_MAX, ROOT, SIGNATURES, SIGNATURES_BYTES_MAX};
use airlock_core::id::Digest;
use airlock_core::root::ROOT_BYTES_MAX;

use super::arriving::Place;
use super::{Answer, Inbox, Refusal, Slot, Target, Why, held, unknown};
use crate::bundle::text::Text;
use crate::bundle::{media, signing};
use crate::error::{Error, file_error};

/// What answers to be given are.
type Told<T> = Result<T, Refusal>;

/// What is to be done with the bytes of a PUT.
#[derive(Debug)]
pub enum Begun {
    /// Nothing: they are here.
    Here,
    /// They are written.
    Write(Writing),
}

/// Bytes that are being written. Dropped before its end, what of a file is there stays, and nothing of a manifest does.
#[derive(Debug)]
pub struct Writing {
    inbox: Arc<Inbox>,
    bundle: Digest,
    left: u64,
    sink: Sink,
}

enum Sink {
    /// A manifest or root of which nobody knows who signed it.
    Document {
        file: File,
        place: Place,
        name: &'static str,
    },
    Signatures(Vec<u8>),
    Member {
        slot: Arc<Mutex<Slot>>,
        at: usize,
        offset: u64,
    },
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Document { .. } => "document",
            Self::Signatures(_) => "signatures",
            Self::Member { .. } => "file",
        })
    }
}

/// Runs what may wait for a disk.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> Told<T> + Send + 'static) -> Told<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Refusal::new(Why::Fault, "a working thread stopped")))
}

impl Inbox {
    /// Begins with a file of so many bytes. `part` says which bytes of how many they are, where they are not all.
    pub async fn begin(
        self: &Arc<Self>,
        target: Target,
        length: u64,
        part: Option<(Range<u64>, u64)>,
    ) -> Told<Begun> {
        let inbox = self.clone();
        aside(move || begin(inbox, &target, length, part)).await
    }
}

fn begin(inbox: Arc<Inbox>, target: &Target, length: u64, part: Option<(Range<u64>, u64)>) -> Told<Begun> {
    let bundle = target.bundle;
    let most = match target.path.as_str() {
        MANIFEST => MANIFEST_BYTES_MAX,
        ROOT => ROOT_BYTES_MAX,
        SIGNATURES => SIGNATURES_BYTES_MAX,
        _ => u64::MAX,
    };
    if length > most {
        return Err(Refusal::new(Why::Large, format!("it is larger than {most} bytes")));
    }
    let slot = inbox.slot(bundle)?;
    let sink = match (target.path.as_str(), slot) {
        (SIGNATURES, _) if part.is_none() => Sink::Signatures(Vec::new()),
        (MANIFEST, Some(_)) => return Ok(Begun::Here),
        (MANIFEST | ROOT, None) if part.is_none() => {
            let name = if target.path == MANIFEST { MANIFEST } else { ROOT };
            let Some(place) = inbox.arriving.begin(bundle, name, length)? else { return Ok(Begun::Here) };
            match File::create(&place.path) {
                Ok(file) => Sink::Document { file, place, name },
                Err(e) => {
                    inbox.arriving.stop(place.number);
                    return Err(file_error(&place.path)(e).into());
                }
            }
        }
        (MANIFEST | SIGNATURES, _) => return Err(Refusal::new(Why::Range, "it comes whole or not at all")),
        (_, None) => return Err(unknown()),
        (path, Some(slot)) => match member(&slot, path, length, part)? {
            Some((at, offset)) => Sink::Member { slot, at, offset },
            None => return Ok(Begun::Here),
        },
    };
    Ok(Begun::Write(Writing { inbox, bundle, left: length, sink }))
}

/// Where the bytes of a file belong; none if they are here. From now on no other connection sends it.
fn member(
    slot: &Mutex<Slot>,
    path: &str,
    length: u64,
    part: Option<(Range<u64>, u64)>,
) -> Told<Option<(usize, u64)>> {
    let mut slot = held(slot);
    let bundle = match &mut *slot {
        Slot::Open(bundle) => bundle,
        Slot::Delivered(_) => return Ok(None),
        Slot::Closed => return Err(unknown()),
    };
    let members = &bundle.spool.members;
    let found = members.find(path).and_then(|at| Some((at, members.range(at)?)));
    let (at, range) = found.ok_or_else(|| Refusal::new(Why::NotListed, "the manifest does not list it"))?;
    let size = range.end - range.start;
    let (bytes, total) = part.unwrap_or((0..length, length));
    if total != size || bytes.end != size || bytes.end - bytes.start != length {
        return Err(Refusal::new(Why::Length, format!("the manifest says {size} bytes")));
    }
    if !bundle.spool.is_open(at) {
        return Ok(None);
    }
    if bundle.busy.contains(&at) {
        return Err(Refusal::new(Why::Busy, "another connection is sending it"));
    }
    let there = bundle.spool.upto(at);
    if bytes.start == 0 {
        // All of it comes, which does not rest on what anybody sent before.
        bundle.spool.forget(at)?;
    } else if bytes.start != there {
        return Err(Refusal::new(Why::Range, format!("there are {there} bytes of it")));
    }
    bundle.busy.insert(at);
    bundle.touch();
    Ok(Some((at, range.start + bytes.start)))
}

impl Writing {
    /// Writes the next bytes, of which no more may come than were announced.
    pub async fn write(mut self, pieces: Vec<impl AsRef<[u8]> + Send + 'static>) -> Told<Self> {
        aside(move || {
            let pieces: Vec<&[u8]> =
                pieces.iter().map(AsRef::as_ref).filter(|piece| !piece.is_empty()).collect();
            self.put(&pieces)?;
            Ok(self)
        })
        .await
    }

    fn put(&mut self, pieces: &[&[u8]]) -> Told<()> {
        let bytes = pieces.iter().map(|piece| piece.len() as u64).sum();
        let left = self.left.checked_sub(bytes);
        self.left = left.ok_or_else(|| Refusal::new(Why::Length, "more came than was announced"))?;
        let full = |error: Error| Refusal { why: Why::Full, error };
        match &mut self.sink {
            Sink::Document { file, place, .. } => {
                self.inbox.arriving.comes(self.bundle, place.number, bytes)?;
                let mut each = pieces.iter();
                each.try_for_each(|piece| file.write_all(piece))
                    .map_err(file_error(&place.path))
                    .map_err(full)?;
            }
            Sink::Signatures(held) => pieces.iter().for_each(|piece| held.extend_from_slice(piece)),
            Sink::Member { slot, offset, .. } => {
                let mut slot = held(slot);
                let Slot::Open(bundle) = &mut *slot else { return Err(unknown()) };
                let mut placed = Vec::with_capacity(pieces.len());
                for piece in pieces {
                    placed.push((*offset, *piece));
                    *offset += piece.len() as u64;
                }
                bundle.spool.put(&placed).map_err(full)?;
                bundle.touch();
            }
        }
        Ok(())
    }

    /// Ends it when all bytes came.
    pub async fn finish(self) -> Told<Answer> {
        aside(move || self.end()).await
    }

    fn end(mut self) -> Told<Answer> {
        if self.left > 0 {
            return Err(Refusal::new(Why::Length, "less came than was announced"));
        }
        let (inbox, bundle) = (self.inbox.clone(), self.bundle);
        match &mut self.sink {
            Sink::Document { place, name, .. } => {
                let other = || Refusal::new(Why::Hash, "its SHA-256 is not the one that was announced");
                let root = match *name {
                    MANIFEST => {
                        let _one = held(&inbox.judging);
                        let text = Text::read(&place.path)?;
                        if text.digest() != bundle {
                            return Err(other());
                        }
                        signing::claimed_root(&text)
                    }
                    _ => Some(hash(&place.path)?),
                };
                if *name == ROOT && inbox.arriving.root(bundle)? != root {
                    return Err(other());
                }
                inbox.arriving.keep(bundle, place.number, (name, root))?;
                Ok(Answer::Stored)
            }
            Sink::Signatures(signatures) => inbox.signed(bundle, signatures),
            Sink::Member { slot, at, .. } => {
                let found = match &*held(slot) {
                    Slot::Open(bundle) => bundle.spool.whole(*at),
                    _ => None,
                };
                let whole = found.ok_or_else(unknown)?;
                // What is hashed is what the file system gives back.
                let fits = hash(&whole.path)? == whole.sha256;
                let mut slot = held(slot);
                let Slot::Open(open) = &mut *slot else { return Err(unknown()) };
                open.spool.judged(*at, fits)?;
                if !fits {
                    return Err(Refusal::new(Why::Hash, "its SHA-256 is not the one in the manifest"));
                }
                inbox.settle(&mut slot)?;
                Ok(if matches!(&*slot, Slot::Delivered(_)) { Answer::Delivered } else { Answer::Stored })
            }
        }
    }
}

fn hash(path: &std::path::Path) -> Told<Digest> {
    let file = media::open(path)?.ok_or_else(|| Refusal::new(Why::Fault, "it is no ordinary file"))?;
    Ok(media::hash(&file, path, &mut vec![0; media::BUFFER_BYTES], |_| ())?)
}

impl Drop for Writing {
    fn drop(&mut self) {
        match &self.sink {
            // What was kept is known by its number no more.
            Sink::Document { place, .. } => self.inbox.arriving.stop(place.number),
            Sink::Signatures(_) => {}
            Sink::Member { slot, at, .. } => {
                if let Slot::Open(bundle) = &mut *held(slot)
                    && bundle.busy.remove(at)
                    && let Some(whole) = bundle.spool.whole(*at)
                {
                    // All of it came, and whoever sent it was gone before it was looked at.
                    bundle.hasher.tell(whole);
                }
            }
        }
    }
}
