//! What is ruled of the findings of a channel, to be told to scanners elsewhere as OpenVEX or CSAF.

use std::collections::{BTreeMap, BTreeSet};

use airlock_core::assess::{Assessed, Assessments, By};
use airlock_core::canon::Canonical;
use airlock_core::ecosystem::Ecosystem;
use airlock_core::fact::Facts;
use airlock_core::id::{Digest, Id};
use airlock_core::shard::ShardKey;
use airlock_core::verdict::{Judged, Judgement};
use airlock_formats::feeds::vex::write::{Document, Named, Ruled};

use crate::error::Result;
use crate::explain;
use crate::view::{ChannelView, View};
use crate::{judge, trees};

/// What one person or source ruled of one vulnerability: the rest of it is where.
type About = (String, BTreeSet<String>, Assessed);

/// Everything that stands of what was ruled of the findings of a channel. The same rulings make the same document, but for
/// its time.
pub async fn document(view: &View, channel: &ChannelView) -> Result<Document> {
    let station = view.station();
    let (_, decisions) = judge::decisions(station).await?;
    let hashes = Hashes { facts: trees::load(&station.store.db, channel.newest.inputs.facts).await?, view };
    let mut products: BTreeMap<About, BTreeSet<Named>> = BTreeMap::new();
    for ours in explain::known(view, channel).await?.chunk_by(|a, b| a.name == b.name) {
        let releases = Releases::of(ours);
        for judgement in ours {
            let ruled = judgement.artifacts.iter().filter(|(_, j)| !j.gone && !j.assessed.is_empty());
            for (file, judged) in ruled {
                let hash = hashes.of(judgement, file).await?;
                for finding in judgement.findings_of(judged).iter() {
                    let stands = judged.assessed.get(&finding.advisory).filter(|a| a.stands().is_some());
                    let Some(assessed) = stands else { continue };
                    let about = (finding.advisory.clone(), finding.aliases.clone(), assessed.clone());
                    let named = releases.name(channel, judgement, (file, judged), hash);
                    products.entry(about).or_default().insert(named);
                }
            }
        }
    }
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
    let rulings: Vec<Ruled> = products.into_iter().map(ruled).collect();
    let content: Vec<_> = rulings.iter().map(|r| (&r.vulnerability, r.status, &r.reason, names(r))).collect();
    let content = Digest::of(Canonical::of(&content)?.as_str().as_bytes());
    let name = &channel.channel.name;
    let key = airlock_core::bundle::fingerprint(&station.key.public());
    Ok(Document {
        id: format!("urn:airlock:vex:{}:{}", name.replace('/', ":"), content.short()),
        author: station.config.name.clone(),
        namespace: format!("urn:airlock:station:{key}"),
        title: format!("What station {} ruled of vulnerabilities in channel {name}", station.config.name),
        time: station.now().await?,
        rulings,
    })
}

fn names(ruled: &Ruled) -> Vec<&str> {
    ruled.products.iter().map(|product| product.purl.as_str()).collect()
}

/// The hashes of files, as they were fetched.
struct Hashes<'a> {
    facts: BTreeMap<String, Id<Facts>>,
    view: &'a View,
}

impl Hashes<'_> {
    async fn of(&self, judgement: &Judgement, file: &str) -> Result<Option<Digest>> {
        let key = ShardKey { subdir: judgement.subdir.clone(), name: judgement.name.clone() }.to_string();
        let Some(id) = self.facts.get(&key) else { return Ok(None) };
        let facts = self.view.object(*id).await?;
        Ok(facts.files.get(file).and_then(|fact| fact.file.as_ref()).map(|file| file.sha256))
    }
}

/// What was ruled of the files of each release, to tell whether a ruling is about all of one.
struct Releases(BTreeMap<String, Vec<Assessments>>);

impl Releases {
    fn of(judgements: &[Judgement]) -> Self {
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
        channel: &ChannelView,
        judgement: &Judgement,
        (file, judged): (&str, &Judged),
        hash: Option<Digest>,
    ) -> Named {
        let (name, version) = (&judgement.name, &judged.version);
        match channel.channel.ecosystem {
            Ecosystem::Pypi => {
                let all = self.0.get(version);
                match all.is_some_and(|all| all.windows(2).all(|two| two[0] == two[1])) {
                    true => Named::pypi_release(name, version),
                    false => Named { sha256: hash, ..Named::pypi_file(name, version, file) },
                }
            }
            Ecosystem::Conda => {
                let place = (channel.channel.name.as_str(), judgement.subdir.as_deref().unwrap_or_default());
                Named { sha256: hash, ..Named::conda(name, version, file, place) }
            }
        }
    }
}
