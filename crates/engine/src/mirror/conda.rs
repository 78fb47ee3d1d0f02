//! Reading a conda channel.
//!
//! A channel of a few names reads the sharded index and just their shards; a whole channel reads
//! `repodata.json.zst`, else `repodata.json`, else all shards. A directory without any of them is read package by
//! package.

use std::collections::{BTreeMap, HashMap};

use futures_util::{StreamExt as _, stream};

use airlock_core::canon::Canonical;
use airlock_core::ecosystem::{self, Ecosystem};
use airlock_core::id::{Digest, Id};
use airlock_core::shard::{Shard, ShardKey};
use airlock_formats::conda::{self, ShardIndex};
use airlock_formats::{IndexRead, limits};

use super::{MirrorState, Reading, Tree, unusable};
use crate::error::{Error, Result, joined};
use crate::upstream::{Ask, Body, Client, Got, Location, Validator};

/// Shards that are fetched at once from one host.
const AT_ONCE: usize = 4;

const SHARDED: &str = "repodata_shards.msgpack.zst";
const FORMS: [&str; 2] = ["repodata.json.zst", "repodata.json"];

/// What reading a subdir gave.
struct Subdir {
    shards: BTreeMap<String, Id<Shard>>,
    about: Option<Canonical>,
}

impl Reading<'_> {
    pub(super) async fn conda(&mut self, subdirs: &[String]) -> Result<Tree> {
        let mut tree =
            Tree { shards: BTreeMap::new(), subdirs: BTreeMap::new(), state: MirrorState::default() };
        let mut found = 0;
        for subdir in subdirs {
            let read = self.subdir(subdir, &mut tree.state).await?;
            found += usize::from(read.is_some());
            let read = read.unwrap_or(Subdir { shards: BTreeMap::new(), about: None });
            tree.shards.extend(read.shards);
            // Every subdir is published, if only empty: a channel without noarch is none to its clients.
            let about = read.about.unwrap_or_else(|| Canonical::object([]));
            tree.subdirs.insert(subdir.clone(), about);
        }
        if found == 0 {
            return Err(Error::fault(format!(
                "{}: there is neither an index nor a package in {}",
                self.source.shown(),
                subdirs.join(", ")
            ))
            .hint("check the source's address and its subdirs"));
        }
        Ok(tree)
    }

    async fn subdir(&mut self, subdir: &str, state: &mut MirrorState) -> Result<Option<Subdir>> {
        let few = self.filter.names().is_some();
        if few && let Some(read) = self.sharded(subdir, state).await? {
            return Ok(Some(read));
        }
        for form in FORMS {
            if let Some(read) = self.whole(subdir, form, state).await? {
                return Ok(Some(read));
            }
        }
        if !few && let Some(read) = self.sharded(subdir, state).await? {
            return Ok(Some(read));
        }
        match self.bare_subdir(subdir).await? {
            Some(read) => Ok(Some(Subdir { about: read.about.clone(), shards: self.keep(read).await? })),
            None => Ok(None),
        }
    }

    async fn get(&self, reference: &str, bytes_max: u64) -> Result<Got> {
        let ask = Ask {
            accept: None,
            validator: self.before.validators.get(reference),
            bytes_max,
            ..Ask::default()
        };
        self.client.get(&self.source.join(reference)?, ask).await
    }

    /// What the last reading knew of a subdir whose index did not change.
    fn unchanged(&mut self, subdir: &str, reference: &str, state: &mut MirrorState) -> Subdir {
        let validator = self.before.validators.get(reference).cloned();
        state.validators.extend(validator.map(|v| (reference.to_owned(), v)));
        let prefix = format!("{subdir}/");
        let shards = self.before.shards.iter().filter(|(k, _)| k.starts_with(&prefix));
        state.shards.extend(shards.map(|(k, v)| (k.clone(), *v)));
        state.bases.extend(self.before.bases.get(subdir).map(|b| (subdir.to_owned(), b.clone())));
        let about = self.about.get(subdir).cloned();
        Subdir { shards: self.again(|key| key.subdir.as_deref() == Some(subdir)), about }
    }

    async fn whole(&mut self, subdir: &str, form: &str, state: &mut MirrorState) -> Result<Option<Subdir>> {
        let reference = format!("{subdir}/{form}");
        let body = match self.get(&reference, limits::INDEX_BYTES_MAX).await? {
            Got::Absent => return Ok(None),
            Got::NotModified => return Ok(Some(self.unchanged(subdir, &reference, state))),
            Got::Body(body) => body,
        };
        let place = body.location.shown();
        // On threads of their own: a large index takes seconds.
        let (at, index, threads) = (subdir.to_owned(), reference.clone(), self.station.options.threads);
        let (bytes, packed) = (body.bytes, form.ends_with(".zst"));
        let read = move || {
            let text = if packed { conda::unpack_repodata(&bytes) } else { Ok(bytes) };
            Ok(text.and_then(|text| conda::read_repodata_on(threads, &at, &index, &text)))
        };
        let read = joined(tokio::task::spawn_blocking(read).await)?;
        let read = read.map_err(|e| unusable(&place, &e))?;
        state.bases.extend(read.base_url.clone().map(|base| (subdir.to_owned(), base)));
        note(state, &reference, body.validator);
        let about = read.about.clone();
        Ok(Some(Subdir { shards: self.keep(read).await?, about }))
    }

    async fn sharded(&mut self, subdir: &str, state: &mut MirrorState) -> Result<Option<Subdir>> {
        let reference = format!("{subdir}/{SHARDED}");
        let body = match self.get(&reference, limits::SHARD_BYTES_MAX).await? {
            Got::Absent => return Ok(None),
            Got::NotModified => return Ok(Some(self.unchanged(subdir, &reference, state))),
            Got::Body(body) => body,
        };
        let place = body.location.shown();
        let index = conda::read_shard_index(subdir, &body.bytes).map_err(|e| unusable(&place, &e))?;
        state.bases.extend(index.base_url.clone().map(|base| (subdir.to_owned(), base)));
        let (mut shards, missing) = self.shards_at_hand(subdir, &index, state);
        let folder = shard_folder(&body, &index)?;
        let fetches = missing.into_iter().map(|(name, digest)| {
            let (client, folder) = (self.client.clone(), folder.clone());
            async move { fetch_shard(&client, &folder, subdir, &name, digest).await }
        });
        let mut all = IndexRead::default();
        let mut fetches = stream::iter(fetches).buffer_unordered(AT_ONCE);
        while let Some(read) = fetches.next().await {
            all.merge(read?);
        }
        drop(fetches);
        all.bad.sort_by(|a, b| (&a.index, &a.file).cmp(&(&b.index, &b.file)));
        shards.extend(self.keep(all).await?);
        note(state, &reference, body.validator);
        Ok(Some(Subdir { shards, about: Some(index.about) }))
    }

    /// The shards that the last reading has already, and those that must be fetched.
    fn shards_at_hand(
        &self,
        subdir: &str,
        index: &ShardIndex,
        state: &mut MirrorState,
    ) -> (BTreeMap<String, Id<Shard>>, HashMap<String, Digest>) {
        let mut at_hand = BTreeMap::new();
        let mut missing = HashMap::new();
        let canonical = |name: &String| ecosystem::canonical_name(Ecosystem::Conda, name);
        let mut spellings: HashMap<String, usize> = HashMap::new();
        for name in index.shards.keys().filter_map(canonical) {
            *spellings.entry(name).or_default() += 1;
        }
        for (name, digest) in &index.shards {
            let Some(canonical) = canonical(name) else { continue };
            // Of several spellings of one name every shard is read each time: together they are one.
            let is_alone = spellings.get(&canonical).is_some_and(|n| *n == 1);
            if !self.filter.wants_name(&canonical) {
                continue;
            }
            let key = ShardKey { subdir: Some(subdir.to_owned()), name: canonical }.to_string();
            let is_as_before = is_alone && self.before.shards.get(&key) == Some(digest);
            match self.known.get(&key).filter(|_| is_as_before) {
                Some(id) => {
                    at_hand.insert(key.clone(), *id);
                }
                None => {
                    missing.insert(name.clone(), *digest);
                }
            }
            state.shards.insert(key, *digest);
        }
        (at_hand, missing)
    }
}

fn note(state: &mut MirrorState, reference: &str, validator: Option<Validator>) {
    state.validators.extend(validator.map(|v| (reference.to_owned(), v)));
}

fn shard_folder(body: &Body, index: &ShardIndex) -> Result<Location> {
    let mut base = index.shards_base_url.clone();
    if !base.ends_with('/') {
        base.push('/');
    }
    body.location.join(&base)
}

async fn fetch_shard(
    client: &Client,
    folder: &Location,
    subdir: &str,
    name: &str,
    digest: Digest,
) -> Result<IndexRead> {
    let location = folder.join(&format!("{digest}.msgpack.zst"))?;
    let place = location.shown();
    let ask = Ask { bytes_max: limits::SHARD_BYTES_MAX, ..Ask::default() };
    let Got::Body(body) = client.get(&location, ask).await? else {
        return Err(Error::fault(format!("{place}: the index names this shard, but it is not there"))
            .hint("run it again later"));
    };
    // No client checks this; whoever swaps a shard would go unseen.
    let found = Digest::of(&body.bytes);
    if found != digest {
        return Err(Error::unsafe_(format!(
            "{place}: the shard of `{name}` hashes to {found}, not to its name"
        )));
    }
    conda::read_shard(subdir, name, &body.bytes).map_err(|e| unusable(&place, &e))
}
