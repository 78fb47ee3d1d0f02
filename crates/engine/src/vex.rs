//! What is ruled of the findings of a channel, to be told to scanners elsewhere as OpenVEX or CSAF.

use std::collections::{BTreeMap, BTreeSet};

use airlock_core::assess::{Assessed, Assessments, By};
use airlock_core::canon::Canonical;
use airlock_core::decision::Decisions;
use airlock_core::ecosystem::Ecosystem;
use airlock_core::fact::Facts;
use airlock_core::id::Digest;
use airlock_core::shard::ShardKey;
use airlock_core::time::Time;
use airlock_core::verdict::{Judged, Judgement};
use airlock_formats::feeds::vex::write::{Document, Named, Ruled};

use crate::error::Result;
use crate::explain;
use crate::station::Station;
use crate::view::{ChannelView, View};
use crate::{judge, trees};

/// What one person or source ruled of one vulnerability: the rest of it is where.
type About = (String, BTreeSet<String>, Assessed);

/// Everything that stands of what was ruled of the findings of a channel. The same rulings make the same document, but for
/// its time.
pub async fn document(view: &View, channel: &ChannelView) -> Result<Document> {
    let station = view.station();
    let (_, decisions) = judge::decisions(station).await?;
    let facts = trees::load(&station.store.db, channel.newest.inputs.facts).await?;
    let mut rulings = Rulings::of(&channel.channel.name, channel.channel.ecosystem);
    for ours in explain::known(view, channel).await?.chunk_by(|a, b| a.name == b.name) {
        let releases = Releases::of(ours);
        for judgement in ours {
            let facts = match facts.get(&key(judgement)) {
                Some(id) if is_ruled(judgement) => Some(view.object(*id).await?),
                _ => None,
            };
            rulings.add(judgement, &releases, facts.as_deref());
        }
    }
    rulings.document(station, &decisions, station.now().await?)
}

fn key(judgement: &Judgement) -> String {
    ShardKey { subdir: judgement.subdir.clone(), name: judgement.name.clone() }.to_string()
}

/// Whether anything was ruled of what a judgement is about.
fn is_ruled(judgement: &Judgement) -> bool {
    judgement.artifacts.values().any(|judged| !judged.gone && !judged.assessed.is_empty())
}

/// What was ruled of the findings of a channel, as it is collected.
pub(crate) struct Rulings<'a> {
    channel: &'a str,
    ecosystem: Ecosystem,
    products: BTreeMap<About, BTreeSet<Named>>,
}

impl<'a> Rulings<'a> {
    pub(crate) const fn of(channel: &'a str, ecosystem: Ecosystem) -> Self {
        Self { channel, ecosystem, products: BTreeMap::new() }
    }

    /// Adds what stands of what was ruled of a shard; `facts` tell the hashes of its files.
    pub(crate) fn add(&mut self, judgement: &Judgement, releases: &Releases, facts: Option<&Facts>) {
        let ruled = judgement.artifacts.iter().filter(|(_, j)| !j.gone && !j.assessed.is_empty());
        for (file, judged) in ruled {
            let fact = facts.and_then(|facts| facts.files.get(file)).and_then(|fact| fact.file.as_ref());
            let hash = fact.map(|file| file.sha256);
            for finding in judgement.findings_of(judged).iter() {
                let stands = judged.assessed.get(&finding.advisory).filter(|a| a.stands().is_some());
                let Some(assessed) = stands else { continue };
                let about = (finding.advisory.clone(), finding.aliases.clone(), assessed.clone());
                let place = (self.channel, self.ecosystem);
                let named = releases.name(place, judgement, (file, judged), hash);
                self.products.entry(about).or_default().insert(named);
            }
        }
    }

    /// What was collected, as a document of this time.
    pub(crate) fn document(self, station: &Station, decisions: &Decisions, time: Time) -> Result<Document> {
        let made = |by: &By| match by {
            By::Decision(id) => decisions.list.iter().find(|d| d.id == *id).map(|d| d.time),
            By::Feed(_) | By::Package => None,
        };
        let ruled = |((vulnerability, aliases, assessed), products): (About, BTreeSet<Named>)| Ruled {
            vulnerability,
            aliases,
            status: assessed.status,
            justification: assessed.justification,
            reason: if assessed.reason.is_empty() {
                format!("ruled by {}", assessed.by)
            } else {
                assessed.reason
            },
            time: made(&assessed.by),
            products: products.into_iter().collect(),
        };
        let rulings: Vec<Ruled> = self.products.into_iter().map(ruled).collect();
        let content: Vec<_> =
            rulings.iter().map(|r| (&r.vulnerability, r.status, &r.reason, names(r))).collect();
        let content = Digest::of(Canonical::of(&content)?.as_str().as_bytes());
        let name = self.channel;
        Ok(Document {
            id: format!("urn:airlock:vex:{}:{}", name.replace('/', ":"), content.short()),
            author: station.config.name.clone(),
            namespace: namespace(station),
            title: format!("What station {} ruled of vulnerabilities in channel {name}", station.config.name),
            time,
            rulings,
        })
    }
}

/// The URI of a station.
pub(crate) fn namespace(station: &Station) -> String {
    format!("urn:airlock:station:{}", airlock_core::bundle::fingerprint(&station.key.public()))
}

fn names(ruled: &Ruled) -> Vec<&str> {
    ruled.products.iter().map(|product| product.purl.as_str()).collect()
}

/// What was ruled of the files of each release, to tell whether a ruling is about all of one.
pub(crate) struct Releases(BTreeMap<String, Vec<Assessments>>);

impl Releases {
    pub(crate) fn of(judgements: &[Judgement]) -> Self {
        let mut files: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for judged in judgements.iter().flat_map(|judgement| judgement.artifacts.values()).filter(|j| !j.gone)
        {
            files.entry(judged.version.clone()).or_default().push(judged.assessed.clone());
        }
        Self(files)
    }

    /// How a file is named. A release of PyPI whose files were all ruled alike goes by its version alone, since that is how
    /// scanners know it.
    fn name(
        &self,
        (channel, ecosystem): (&str, Ecosystem),
        judgement: &Judgement,
        (file, judged): (&str, &Judged),
        hash: Option<Digest>,
    ) -> Named {
        let (name, version) = (&judgement.name, &judged.version);
        match ecosystem {
            Ecosystem::Pypi => {
                let all = self.0.get(version);
                match all.is_some_and(|all| all.windows(2).all(|two| two[0] == two[1])) {
                    true => Named::pypi_release(name, version),
                    false => Named { sha256: hash, ..Named::pypi_file(name, version, file) },
                }
            }
            Ecosystem::Conda => {
                let place = (channel, judgement.subdir.as_deref().unwrap_or_default());
                Named { sha256: hash, ..Named::conda(name, version, file, place) }
            }
        }
    }
}
