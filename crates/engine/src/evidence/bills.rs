//! The bills of materials, and what else is told of what is published: which findings stand against it, in which states.

use std::collections::BTreeMap;

use airlock_core::assess::Assessed;
use airlock_core::bundle;
use airlock_core::evidence::part;
use airlock_core::fact::Facts;
use airlock_core::id::{Digest, Id};
use airlock_core::matching::{Finding, Status};
use airlock_core::object::{self, Object};
use airlock_core::shard::{Shard, place};
use airlock_core::verdict::Judgement;
use airlock_formats::feeds::vex::write::openvex;
use airlock_formats::sbom::{Component, Subject, cyclonedx, spdx};
use airlock_store::StoreError;

use super::archive::Archive;
use super::summary::{self, Found, Summary};
use super::write::{NAMES_AT_ONCE, Source};
use crate::error::{Error, Result, file_error};
use crate::ledger::RESTORE;
use crate::progress::Unit;
use crate::vex::{self, Releases, Rulings};

/// Where the objects of a channel stand: one entry for each name.
type Keys<T> = BTreeMap<String, Id<T>>;

/// What is published, and what is known of it.
pub(super) struct Trees {
    pub content: Keys<Shard>,
    pub judgements: Keys<Judgement>,
    pub facts: Keys<Facts>,
}

/// Writes the bills of materials and the statements. Gives how many files are published, and what a person wants to see of them.
pub(super) async fn write(
    source: &Source<'_>,
    archive: &mut Archive,
    trees: &Trees,
) -> Result<(u64, Summary)> {
    let namespace = vex::namespace(source.station);
    let inputs = &source.channel.snapshot.inputs;
    let subject = Subject {
        channel: &source.channel.channel.name,
        snapshot: source.channel.id.digest(),
        time: inputs.now,
        station: &source.station.config.name,
        namespace: &namespace,
        origin: inputs.source.as_deref(),
    };
    let mut summary = source.summary();
    let mut rulings = Rulings::of(subject.channel, source.channel.snapshot.ecosystem);
    let components = source.cyclonedx(archive, trees, &subject, (&mut summary, &mut rulings)).await?;
    source.spdx(archive, trees, &subject).await?;
    archive.part(part::OPENVEX)?;
    let document = rulings.document(source.station, &source.decisions, inputs.now)?;
    let text = serde_json::to_string_pretty(&openvex(&document))? + "\n";
    archive.put(text.as_bytes())?;
    summary.keep_worst();
    Ok((components, summary))
}

impl Source<'_> {
    /// Objects of some names, by key.
    async fn some<T: Object>(&self, keys: &[&String], of: &Keys<T>) -> Result<BTreeMap<String, T>> {
        let ids: Vec<(&String, Id<T>)> = keys.iter().filter_map(|key| Some((*key, *of.get(*key)?))).collect();
        let digests: Vec<Digest> = ids.iter().map(|(_, id)| id.digest()).collect();
        let found = self.station.store.db.get_many(&digests).await?;
        let read = |(key, id): (&String, Id<T>)| -> Result<(String, T)> {
            let bytes = found.get(&id.digest()).ok_or(StoreError::MissingObject(id.digest()))?;
            Ok((key.clone(), object::decode(bytes)?))
        };
        ids.into_iter().map(read).collect()
    }

    /// What is published of some names.
    async fn components(&self, keys: &[&String], trees: &Trees) -> Result<Vec<Component>> {
        let shards = self.some(keys, &trees.content).await?;
        let facts = self.some(keys, &trees.facts).await?;
        let mut out = Vec::new();
        for (key, shard) in &shards {
            for file in shard.entries.keys() {
                let fact = facts.get(key).and_then(|facts| facts.files.get(file)?.file.as_ref());
                let component = Component::of(&self.channel.channel.name, shard, file, fact);
                out.push(component.ok_or_else(|| {
                    Error::no(format!("the published record of {file} cannot be read")).hint(RESTORE)
                })?);
            }
        }
        Ok(out)
    }

    async fn cyclonedx(
        &self,
        archive: &mut Archive,
        trees: &Trees,
        subject: &Subject<'_>,
        (summary, rulings): (&mut Summary, &mut Rulings<'_>),
    ) -> Result<u64> {
        archive.part(part::CYCLONEDX)?;
        let fault = || file_error(part::CYCLONEDX);
        let keys: Vec<&String> = trees.content.keys().collect();
        let task =
            self.station.options.progress.task("writing CycloneDX", Unit::Names, Some(keys.len() as u64));
        let mut writer = cyclonedx::Writer::begin(archive, subject).map_err(fault())?;
        let mut count = 0;
        for chunk in keys.chunks(NAMES_AT_ONCE) {
            for component in self.components(chunk, trees).await? {
                writer.component(&component).map_err(fault())?;
                count += 1;
            }
            task.add(chunk.len() as u64);
        }
        for chunk in keys.chunks(NAMES_AT_ONCE) {
            let facts = self.some(chunk, &trees.facts).await?;
            for (key, judgement) in self.some(chunk, &trees.judgements).await? {
                let releases = Releases::of(std::slice::from_ref(&judgement));
                rulings.add(&judgement, &releases, facts.get(&key));
                for (found, assessed, places) in known(&judgement) {
                    let finding = &found.finding;
                    let of =
                        cyclonedx::Vulnerability { finding, assessed: assessed.as_ref(), places: &places };
                    writer.vulnerability(&of).map_err(fault())?;
                    summary.add(found);
                }
            }
        }
        writer.end().map_err(fault())?;
        Ok(count)
    }

    async fn spdx(&self, archive: &mut Archive, trees: &Trees, subject: &Subject<'_>) -> Result<()> {
        archive.part(part::SPDX)?;
        let fault = || file_error(part::SPDX);
        let keys: Vec<&String> = trees.content.keys().collect();
        let names = Some(3 * keys.len() as u64);
        let task = self.station.options.progress.task("writing SPDX", Unit::Names, names);
        let mut writer = spdx::Writer::begin(archive, subject).map_err(fault())?;
        for list in spdx::List::ALL {
            for chunk in keys.chunks(NAMES_AT_ONCE) {
                for component in self.components(chunk, trees).await? {
                    writer.add(list, &component).map_err(fault())?;
                }
                task.add(chunk.len() as u64);
            }
        }
        writer.end().map_err(fault())?;
        Ok(())
    }

    /// The summary, without findings yet.
    fn summary(&self) -> Summary {
        let (channel, snapshot) = (&self.channel.channel.name, &self.channel.snapshot);
        let (decisions, decisions_all) = summary::decisions(&self.decisions, channel, snapshot.inputs.now);
        Summary {
            station: self.station.config.name.clone(),
            fingerprint: bundle::fingerprint(&self.station.key.public()),
            channel: channel.clone(),
            ecosystem: snapshot.ecosystem,
            snapshot: self.channel.id,
            content: snapshot.content.digest(),
            judgement: snapshot.judgement.digest(),
            inputs: snapshot.inputs.clone(),
            counts: snapshot.counts,
            covered: snapshot.covered,
            valid_until: snapshot.valid_until,
            feeds: self.feeds.feeds.clone(),
            policy: self.policy.text.clone(),
            decisions,
            decisions_all,
            findings: Vec::new(),
            states: BTreeMap::new(),
            ledger: self.proof.head,
            published: self.proof.published,
        }
    }
}

/// What is known against what is published of a shard: each vulnerability in each state, with where the files stand.
fn known(judgement: &Judgement) -> Vec<(Found, Option<Assessed>, Vec<String>)> {
    type About = (String, Status, bool, Option<Assessed>);
    let mut all: BTreeMap<About, (Finding, Vec<String>, Vec<String>)> = BTreeMap::new();
    for (file, judged) in judgement.artifacts.iter().filter(|(_, judged)| judged.is_offered()) {
        for finding in judgement.findings_of(judged).iter() {
            let assessed = judged.assessed.get(&finding.advisory);
            let about = (finding.advisory.clone(), finding.status, finding.undecided, assessed.cloned());
            let (first, places, versions) =
                all.entry(about).or_insert_with(|| (finding.clone(), Vec::new(), Vec::new()));
            first.fixed.extend(finding.fixed.iter().cloned());
            places.push(place(judgement.subdir.as_deref(), file));
            if !versions.contains(&judged.version) {
                versions.push(judged.version.clone());
            }
        }
    }
    let told = |assessed: &Assessed| match assessed.void.as_deref() {
        Some(void) => format!("{} stands no longer: {void}", assessed.by),
        None => format!("{}: {}", assessed.by, assessed.reason),
    };
    let found = |((_, _, _, assessed), (finding, places, versions)): (About, (Finding, Vec<String>, _))| {
        let (name, files) = (judgement.name.clone(), places.len() as u64);
        let ruled = assessed.as_ref().map(told);
        (Found { name, files, versions, finding, ruled }, assessed, places)
    };
    all.into_iter().map(found).collect()
}
