//! Bundles that are split over media.
//!
//! Each medium holds one *volume*: the whole manifest with its signatures, all objects, and its share of the files; so each can be
//! verified alone, whichever comes last brings what ties the files together, and one that is lost takes only its share along.
//! Which volume a folder is says [`LABEL`], one line that nobody signs: whatever it claims is held against the manifest.
//!
//! *Parity* volumes hold none of the files. The files of a volume, one after another in the order of the manifest, are its
//! *stream*; shorter streams count as if zeros followed. Each *row* of [`Parity::shard_bytes`] bytes of all streams has one
//! recovery shard per parity volume (Reed-Solomon over GF(2^16) as the crate `reed-solomon-simd` 3 computes it), and a parity
//! volume's own stream is its shards in the order of the rows. Of each row as many shards may be lost as there are parity volumes.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::bundle::Manifest;
use crate::id::Digest;

/// The layout of bundles in volumes.
pub const FORMAT: u32 = 3;
/// The file that says which part of a bundle a folder holds: `volume 2`, `files 3-17,20`, or `files none`.
pub const LABEL: &str = "AIRLOCK.volume";
/// Longest label, in bytes. No receipt is longer, so that whatever one says is missing can be sent.
pub const LABEL_BYTES_MAX: u64 = 16 << 20;
/// The most volumes, of files and of parity together: rebuilding holds a stretch of each stream.
pub const VOLUMES_MAX: usize = 100;
/// Bytes of a shard of parity that this program writes.
pub const SHARD_BYTES: u32 = 64 << 10;
/// The largest shard that is read, in bytes.
pub const SHARD_BYTES_MAX: u32 = 1 << 20;
/// Longest file of parity that is written, in bytes: FAT32 holds no larger ones than 4 GiB.
pub const PARITY_FILE_BYTES: u64 = 1 << 30;

/// One volume, as the manifest lists them in order, those of parity last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Bytes of its files, or of its parity.
    pub bytes: u64,
    /// How many files it holds, of parity too.
    pub files: u64,
}

/// The parity of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parity {
    /// The files that hold it, sorted by path; those of one volume, one after another, are its stream.
    pub files: Vec<ParityFile>,
    /// Bytes of a shard.
    pub shard_bytes: u32,
    /// How many volumes hold parity.
    pub volumes: u32,
}

/// A file of parity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParityFile {
    /// Path within the bundle, from [`parity_path`].
    pub path: String,
    /// SHA-256.
    pub sha256: Digest,
    /// Bytes.
    pub size: u64,
    /// The volume that holds it.
    pub volume: u32,
}

/// Where a file of parity lies.
pub fn parity_path(volume: u32, index: usize) -> String {
    format!("parity/{volume:03}-{index:05}.rs")
}

/// What a folder holds of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Part {
    /// All of it.
    #[default]
    Whole,
    /// One volume, from 1.
    Volume(u32),
    /// Some files, by their places in the manifest's list.
    Files(Ranges),
}

impl Part {
    /// Reads a label.
    pub fn parse(label: &str) -> Option<Self> {
        let line = label.strip_suffix('\n').unwrap_or(label);
        let part = match line.split_once(' ')? {
            ("volume", number) => match number.parse() {
                Ok(volume) if volume > 0 => Some(Self::Volume(volume)),
                _ => None,
            },
            ("files", "none") => Some(Self::Files(Ranges::default())),
            ("files", "") => None,
            ("files", ranges) => ranges.parse().ok().map(Self::Files),
            _ => None,
        };
        // Other programs read it too: there is one way to write each.
        part.filter(|part| part.to_string() == line)
    }

    /// Whether the file at a place of the manifest's list, of this volume, belongs here.
    pub fn has_file(&self, at: u64, volume: Option<u32>) -> bool {
        match self {
            Self::Whole => true,
            Self::Volume(number) => volume == Some(*number),
            Self::Files(ranges) => ranges.contains(at),
        }
    }

    /// Whether a file of parity belongs here.
    pub fn has_parity(&self, file: &ParityFile) -> bool {
        matches!(self, Self::Volume(number) if *number == file.volume)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => write!(f, "all files"),
            Self::Volume(number) => write!(f, "volume {number}"),
            Self::Files(ranges) if ranges.is_empty() => write!(f, "files none"),
            Self::Files(ranges) => write!(f, "files {ranges}"),
        }
    }
}

/// Places in a list, written as `3-17,20`: sorted, apart from each other, the first place being 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Of places in rising order.
    pub fn of(places: impl IntoIterator<Item = u64>) -> Self {
        let mut out: Vec<(u64, u64)> = Vec::new();
        for place in places {
            match out.last_mut() {
                Some((_, last)) if *last + 1 == place => *last = place,
                _ => out.push((place, place)),
            }
        }
        Self(out)
    }

    /// Whether a place is among them.
    pub fn contains(&self, place: u64) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= place);
        after > 0 && self.0.get(after - 1).is_some_and(|(_, last)| place <= *last)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The last place.
    pub fn last(&self) -> Option<u64> {
        self.0.last().map(|(_, last)| *last)
    }

    /// How many places there are.
    pub fn count(&self) -> u64 {
        self.0.iter().fold(0, |sum, (first, last)| sum.saturating_add(last - first).saturating_add(1))
    }
}

impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

/// A list of places that is not written as [`Ranges`] are.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` are no places in rising order, such as 3-17,20")]
pub struct RangesError(String);

impl std::str::FromStr for Ranges {
    type Err = RangesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || RangesError(text.chars().take(40).collect());
        let mut out: Vec<(u64, u64)> = Vec::new();
        for part in text.split(',').filter(|_| !text.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |digits: &str| match digits.bytes().all(|b| b.is_ascii_digit()) {
                true => digits.parse::<u64>().map_err(|_| bad()),
                false => Err(bad()),
            };
            let (first, last) = (number(first)?, number(last)?);
            let follows =
                out.last().is_none_or(|(_, before)| before.checked_add(1).is_some_and(|n| n < first));
            if first > last || last == u64::MAX || !follows {
                return Err(bad());
            }
            out.push((first, last));
        }
        Ok(Self(out))
    }
}

impl TryFrom<String> for Ranges {
    type Error = RangesError;

    fn try_from(text: String) -> Result<Self, RangesError> {
        text.parse()
    }
}

impl From<Ranges> for String {
    fn from(ranges: Ranges) -> Self {
        ranges.to_string()
    }
}

/// Why files do not fit on media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unpacked {
    /// The file at this place is larger than any medium.
    TooLarge(usize),
    /// There is no room for so many bytes.
    NoRoom(u64),
    /// It would take more than [`VOLUMES_MAX`].
    TooMany,
}

/// Puts files of these sizes on media of these capacities: the largest first, each on the first medium that has room. With
/// `more`, the last capacity is that of as many further media as it takes. Gives the volume of each file, from 1, and how
/// many there are.
///
/// The result depends on nothing but the arguments.
///
/// # Errors
///
/// [`Unpacked`], if they do not fit.
pub fn pack(sizes: &[u64], capacities: &[u64], more: bool) -> Result<(Vec<u32>, usize), Unpacked> {
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|at| (std::cmp::Reverse(sizes[*at]), *at));
    let mut left: Vec<u64> = capacities.to_vec();
    let further = capacities.last().copied().filter(|_| more);
    let (mut out, mut lacking, mut first) = (vec![0; sizes.len()], 0u64, 0);
    for at in order {
        let size = sizes[at];
        if capacities.iter().all(|capacity| *capacity < size) {
            return Err(Unpacked::TooLarge(at));
        }
        // Media that are full to the last byte are not asked again.
        while left.get(first) == Some(&0) && size > 0 {
            first += 1;
        }
        let place = (first..left.len()).find(|volume| left[*volume] >= size);
        let place = match (place, further) {
            (Some(place), _) => place,
            (None, Some(capacity)) if capacity >= size => {
                left.push(capacity);
                left.len() - 1
            }
            _ => {
                lacking = lacking.saturating_add(size);
                continue;
            }
        };
        if place >= VOLUMES_MAX {
            return Err(Unpacked::TooMany);
        }
        left[place] -= size;
        out[at] = u32::try_from(place + 1).unwrap_or(u32::MAX);
    }
    if lacking > 0 { Err(Unpacked::NoRoom(lacking)) } else { Ok((out, left.len())) }
}

/// What is wrong with what a manifest says of its volumes, if anything is.
pub fn fault(m: &Manifest) -> Option<String> {
    let parity = m.parity.as_ref();
    let of_parity = parity.map_or(0, |p| p.volumes as usize);
    if m.volumes.is_empty() {
        let is_plain = parity.is_none() && m.files.iter().all(|file| file.volume.is_none());
        return (!is_plain).then(|| "speaks of volumes and has none".to_owned());
    }
    let Some(of_files) = m.volumes.len().checked_sub(of_parity).filter(|of_files| *of_files > 0) else {
        return Some("has no volume of files".to_owned());
    };
    if m.volumes.len() > VOLUMES_MAX {
        return Some(format!("has more than {VOLUMES_MAX} volumes"));
    }
    let mut found = vec![Volume { bytes: 0, files: 0 }; m.volumes.len()];
    let mut add = |volume: u32, size: u64, is_parity: bool| {
        let at = (volume as usize).checked_sub(1).filter(|at| (*at >= of_files) == is_parity);
        let Some(volume) = at.and_then(|at| found.get_mut(at)) else { return false };
        volume.files += 1;
        volume.bytes = volume.bytes.saturating_add(size);
        true
    };
    let files = m.files.iter().map(|file| (file.volume.unwrap_or(0), file.size, false));
    let of_parity = parity.iter().flat_map(|p| &p.files).map(|file| (file.volume, file.size, true));
    if files.chain(of_parity).any(|(volume, size, is_parity)| !add(volume, size, is_parity)) {
        return Some("puts a file on a volume that it does not have".to_owned());
    }
    if found != m.volumes {
        return Some("says other things of its volumes than of their files".to_owned());
    }
    let parity = parity?;
    let shard = u64::from(parity.shard_bytes);
    if shard == 0 || !shard.is_multiple_of(64) || parity.shard_bytes > SHARD_BYTES_MAX || parity.volumes == 0
    {
        return Some("has parity of an impossible kind".to_owned());
    }
    let (of_files, of_parity) = m.volumes.split_at(of_files);
    let longest = of_files.iter().map(|volume| volume.bytes).max().unwrap_or(0);
    let wanted = longest.div_ceil(shard).checked_mul(shard);
    let fits = of_parity.iter().all(|volume| Some(volume.bytes) == wanted);
    (!fits).then(|| "has parity of another length than its files".to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_label_says_which_part_a_folder_holds() {
        for (text, part) in [
            ("volume 2\n", Some(Part::Volume(2))),
            ("files 0,3-17,20\n", Some(Part::Files(Ranges::of([0].into_iter().chain(3..=17).chain([20]))))),
            ("files none\n", Some(Part::Files(Ranges::default()))),
            ("files \n", None),
            ("volume 0\n", None),
            ("volume -1\n", None),
            ("volume +1\n", None),
            ("volume 01\n", None),
            ("volume 1\n\n", None),
            ("files 3-3\n", None),
            ("volume\n", None),
            ("files 3-1\n", None),
            ("files 1,2\n", None),
            ("files 5,2\n", None),
            ("files +1\n", None),
            ("files 18446744073709551615\n", None),
            ("all\n", None),
        ] {
            assert_eq!(Part::parse(text), part, "{text}");
            if let Some(part) = part {
                assert_eq!(format!("{part}\n"), text);
            }
        }
    }

    #[test]
    fn the_largest_go_first_and_each_on_the_first_medium_with_room() {
        assert_eq!(pack(&[3, 9, 4, 1], &[10, 10], false), Ok((vec![2, 1, 2, 1], 2)));
        assert_eq!(pack(&[6, 6, 6], &[10], true), Ok((vec![1, 2, 3], 3)));
        assert_eq!(pack(&[6, 6, 6], &[10, 10], false), Err(Unpacked::NoRoom(6)));
        assert_eq!(pack(&[1, 11], &[10], true), Err(Unpacked::TooLarge(1)));
        assert_eq!(pack(&[12], &[20, 10], true), Ok((vec![1], 2)));
        assert_eq!(pack(&[10; 101], &[10], true), Err(Unpacked::TooMany));
        assert_eq!(pack(&[], &[10], true), Ok((vec![], 1)));
        assert_eq!(pack(&[10, 0], &[10], false), Ok((vec![1, 1], 1)));
    }

    proptest! {
        #[test]
        fn no_medium_holds_more_than_it_has_room_for(
            sizes in proptest::collection::vec(0u64..50, 0..200),
            capacities in proptest::collection::vec(50u64..300, 1..5),
        ) {
            if let Ok((volumes, count)) = pack(&sizes, &capacities, true) {
                let last = *capacities.last().unwrap();
                for volume in 1..=count {
                    let of_it = volumes.iter().zip(&sizes).filter(|(v, _)| **v as usize == volume);
                    let sum: u64 = of_it.map(|(_, size)| size).sum();
                    prop_assert!(sum <= capacities.get(volume - 1).copied().unwrap_or(last));
                }
                prop_assert!(volumes.iter().all(|v| *v >= 1 && *v as usize <= count));
            }
        }

        #[test]
        fn places_are_read_as_they_are_written(places in proptest::collection::btree_set(0u64..200, 0..60)) {
            let ranges = Ranges::of(places.iter().copied());
            prop_assert_eq!(&ranges.to_string().parse::<Ranges>().unwrap(), &ranges);
            prop_assert_eq!(ranges.count(), places.len() as u64);
            for place in 0..201 {
                prop_assert_eq!(ranges.contains(place), places.contains(&place));
            }
        }
    }
}
