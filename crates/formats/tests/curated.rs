//! What NVD's CPEs alone would say of packages, held against what people wrote who looked at each release: PyPA's
//! database and Bitnami's.
//!
//! The pairs of package and CVE are frozen in a list, so that figures of two days compare. The ignored test prints
//! everything (`cargo xtask bench match`), the other one holds the floor.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests"
)]

#[path = "curated/compare.rs"]
mod compare;
#[path = "curated/data.rs"]
mod data;
#[path = "common/genuine.rs"]
mod genuine;

use std::collections::BTreeMap;
use std::fmt;

use airlock_core::advisory::Advisory;
use airlock_core::identity::{Identity, Mapping, builtin};
use airlock_formats::feeds::{nvd, osv};
use compare::{Compared, compare};
use data::{Data, Pair, Source};

/// Pairs that are shown.
const WORST: usize = 10;

/// What adds up over pairs.
#[derive(Default)]
struct Figures {
    pairs: usize,
    reached: usize,
    same: usize,
    both: usize,
    over: usize,
    under: usize,
    undecided: usize,
    neither: usize,
    /// Affected versions of pairs that were not reached.
    missed: usize,
}

impl Figures {
    fn add(&mut self, compared: &Compared) {
        self.pairs += 1;
        if compared.unreached.is_some() {
            self.missed += compared.under.len();
            return;
        }
        self.reached += 1;
        self.same += usize::from(compared.wrong() == 0);
        self.both += compared.both;
        self.over += compared.over.len();
        self.under += compared.under.len();
        self.undecided += compared.undecided;
        self.neither += compared.neither;
    }

    fn precision(&self) -> f64 {
        share(self.both, self.both + self.over)
    }

    fn recall(&self) -> f64 {
        share(self.both, self.both + self.under)
    }

    /// All pairs, for people: those that were not reached count as missed.
    fn overall(&self) -> String {
        let recall = share(self.both, self.both + self.under + self.missed);
        let reach = share(self.reached, self.pairs);
        format!(
            "{} of {} pairs reached ({reach:.3}): {self}; recall over all pairs {recall:.4}",
            self.reached, self.pairs
        )
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of thousands")]
fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

/// What was reached, for people.
impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "precision {:.4}, recall {:.4}, {} of {} pairs the same in every version (versions: {} both, {} too many, \
             {} too few, {} neither; {} left open)",
            self.precision(),
            self.recall(),
            self.same,
            self.reached,
            self.both,
            self.over,
            self.under,
            self.neither,
            self.undecided,
        )
    }
}

fn figures<'a>(compared: impl IntoIterator<Item = &'a Compared>) -> Figures {
    let mut out = Figures::default();
    compared.into_iter().for_each(|one| out.add(one));
    out
}

/// Compares pairs by what their packages are elsewhere.
fn all(data: &Data, pairs: &[Pair], identity: impl Fn(&Pair) -> Identity) -> Vec<Compared> {
    pairs.iter().filter_map(|pair| compare(data, pair, &identity(pair))).collect()
}

#[test]
#[ignore = "`cargo xtask bench match` runs it"]
fn report() {
    let pairs = data::frozen();
    let Some(data) = Data::genuine(&pairs) else { return };
    let by_maps = all(&data, &pairs, |pair| data.identity(pair));
    let by_names = all(&data, &pairs, |pair| data.identity_by_name(pair));
    println!(
        "{} pairs; of {} the curated record leaves the versions open",
        pairs.len(),
        pairs.len() - by_maps.len()
    );
    for source in Source::ALL {
        let of = |all: &'_ [Compared]| figures(all.iter().filter(|c| c.pair.source == source));
        println!("{}, by maps: {}", source.name(), of(&by_maps).overall());
        println!("{}, by maps and equal names: {}", source.name(), of(&by_names).overall());
    }
    println!("all, by maps: {}", figures(&by_maps).overall());
    let mut why: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for one in &by_maps {
        let mut count = |kind: &str, reason: Option<&str>, versions: usize| {
            let Some(reason) = reason else { return };
            let held = why.entry(format!("{}, {kind}: {reason}", one.pair.source.name())).or_default();
            *held = (held.0 + 1, held.1 + versions);
        };
        match one.unreached {
            Some(reason) => count("not reached", Some(reason), one.under.len()),
            None => {
                count("too many", one.why_over(), one.over.len());
                count("too few", one.why_under(), one.under.len());
            }
        }
    }
    println!("what stands in the way:");
    for (reason, (pairs, versions)) in why {
        println!("  {reason}: {pairs} pairs, {versions} versions");
    }
    let mut worst: Vec<&Compared> = by_maps.iter().filter(|c| c.unreached.is_none()).collect();
    worst.sort_by_key(|c| std::cmp::Reverse(c.wrong()));
    println!("the worst:");
    for one in worst.into_iter().take(WORST) {
        let why: Vec<&str> = one.why_over().into_iter().chain(one.why_under()).collect();
        println!(
            "  {} {} {}: {} too many, {} too few, {} right: {} ({})",
            one.pair.source.name(),
            one.pair.package,
            one.pair.cve,
            one.over.len(),
            one.under.len(),
            one.both,
            why.join("; "),
            one.shown()
        );
    }
}

/// Slightly less than was measured (BENCHMARKS.md): reach, precision, recall, and pairs that are the same in every version.
const FLOORS: [(Source, f64, f64, f64, f64); 2] =
    [(Source::Pypi, 0.40, 0.996, 0.975, 0.82), (Source::Bitnami, 0.32, 0.995, 0.99, 0.94)];

#[test]
fn cpes_say_what_those_say_who_looked_at_each_release() {
    let pairs = data::frozen();
    assert!(pairs.is_sorted() && pairs.windows(2).all(|two| two[0] != two[1]));
    let Some(data) = Data::genuine(&pairs) else { return };
    for pair in &pairs {
        let slice = data.curated.get(&pair.source.key(&pair.package));
        let entries = slice.into_iter().flat_map(|slice| &slice.entries);
        let mut names = entries.flat_map(|e| e.aliases.iter().chain([&e.advisory]));
        assert!(names.any(|name| *name == pair.cve), "the data hold no {} of {}", pair.cve, pair.package);
    }
    for (source, reach, precision, recall, same) in FLOORS {
        let of_source: Vec<Pair> = pairs.iter().filter(|p| p.source == source).cloned().collect();
        // Asking for the versions of the others takes long, and only the report shows them.
        let is_reached = |pair: &&Pair| compare::is_reached(&data, pair, &data.identity(pair));
        let reached: Vec<Pair> = of_source.iter().filter(is_reached).cloned().collect();
        let found = figures(&all(&data, &reached, |pair| data.identity(pair)));
        let of_all = share(reached.len(), of_source.len());
        eprintln!("{}, reach {of_all:.3}: {found}", source.name());
        assert!(of_all >= reach, "reach of {}: {of_all}", source.name());
        assert!(found.precision() >= precision, "precision of {}: {found}", source.name());
        assert!(found.recall() >= recall, "recall of {}: {found}", source.name());
        assert!(share(found.same, found.reached) >= same, "pairs of {}: {found}", source.name());
    }
}

/// Two CVEs as NVD writes them: of the first Bitnami says less, of the second more; the third names another product.
const MADE_NVD: &str = r#"{"vulnerabilities":[
{"cve":{"id":"CVE-1-1","configurations":[{"nodes":[{"cpeMatch":[{"vulnerable":true,"criteria":"cpe:2.3:a:lua:lua:*:*:*:*:*:*:*:*","versionEndIncluding":"5.4"}]}]}]}},
{"cve":{"id":"CVE-1-2","configurations":[{"nodes":[{"cpeMatch":[{"vulnerable":true,"criteria":"cpe:2.3:a:lua:lua:5.3:rc1:*:*:*:*:*:*"}]}]}]}},
{"cve":{"id":"CVE-1-3","configurations":[{"nodes":[{"cpeMatch":[{"vulnerable":true,"criteria":"cpe:2.3:a:other:other:1:*:*:*:*:*:*:*"}]}]}]}}]}"#;
const MADE_BITNAMI: &str = r#"{"id":"BIT-1","aliases":["CVE-1-1"],"affected":[{"package":{"ecosystem":"Bitnami","name":"lua"},"ranges":[{"type":"SEMVER","events":[{"introduced":"5.2"},{"fixed":"5.4"}]}]}]}
{"id":"BIT-2","aliases":["CVE-1-2"],"affected":[{"package":{"ecosystem":"Bitnami","name":"lua"},"versions":["5.3-rc1","5.3"]}]}
{"id":"BIT-3","aliases":["CVE-1-3"],"affected":[{"package":{"ecosystem":"Bitnami","name":"lua"},"versions":["5.1"]}]}
"#;

#[test]
fn what_is_too_much_and_too_little_is_counted() {
    let (mut of_nvd, mut of_bitnami): (Vec<Advisory>, Vec<Advisory>) = (Vec::new(), Vec::new());
    nvd::read_all(MADE_NVD.as_bytes(), &mut |r| of_nvd.push(r.unwrap().advisory)).unwrap();
    osv::read_all(&mut MADE_BITNAMI.as_bytes(), &mut |r| of_bitnami.push(r.unwrap().advisory)).unwrap();
    let identity = builtin::identities().remove("lua").unwrap();
    let identities = [((Source::Bitnami, "lua".to_owned()), identity)].into();
    let data = Data::of(&of_nvd, &[(Source::Bitnami, of_bitnami)], identities);
    let pairs = ["CVE-1-1", "CVE-1-2", "CVE-1-3"].map(|cve| Pair {
        source: Source::Bitnami,
        package: "lua".to_owned(),
        cve: cve.to_owned(),
    });
    let compared = all(&data, &pairs, |pair| data.identity(pair));
    // The versions that anybody names are 5.1, 5.2, 5.3-rc1, 5.3 and 5.4.
    let said: Vec<_> = compared.iter().map(|c| (c.both, c.over.join(" "), c.under.join(" "))).collect();
    let said: Vec<_> = said.iter().map(|(both, over, under)| (*both, &**over, &**under)).collect();
    assert_eq!(said, [(3, "5.1 5.4", ""), (1, "", "5.3"), (0, "", "5.1")]);
    assert_eq!(compared[0].why_over(), Some("the curated record has narrower branches"));
    assert_eq!(compared[1].why_under(), Some("NVD lists single versions and no range"));
    assert_eq!(compared[2].unreached, Some("NVD names another product than the maps"));
    let found = figures(&compared);
    assert_eq!((found.pairs, found.reached, found.same, found.missed), (3, 2, 0, 1));
    assert_eq!((found.precision(), found.recall()), (4.0 / 6.0, 4.0 / 5.0));
    // By another name for the same software everything is reached.
    let other = |_: &Pair| Identity::of(vec![Mapping::pypi("lua", "a map")]);
    assert_eq!(figures(&all(&data, &pairs, other)).reached, 0);
}
