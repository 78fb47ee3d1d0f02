//! Possible closure against the solver: what is called impossible no choice of files installs, in channels that are made up
//! and in the genuine index, of which a part is denied.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use airlock_core::canon::Canonical;
use airlock_core::closure::{Graph, Known, Part};
use airlock_core::ecosystem::Ecosystem;
use airlock_core::identity::Coverage;
use airlock_core::shard::{Entry, Shard, ShardKey};
use airlock_core::verdict::{Judged, Judgement, Verdict};
use airlock_solve::{Place, Platform, Pool, Task, Unsolved, Wish, solve};
use serde_json::{Value, json};

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % n as u64).unwrap()
    }
}

/// A channel: its records by place, and what of it is denied.
struct Channel {
    records: BTreeMap<Place, Value>,
    denied: BTreeSet<Place>,
    /// The files of each name.
    names: BTreeMap<String, Vec<Place>>,
}

impl Channel {
    fn new(records: BTreeMap<Place, Value>, denies: impl FnMut(&Place) -> bool) -> Self {
        let mut denies = denies;
        let denied = records.keys().filter(|place| denies(place)).cloned().collect();
        let mut names: BTreeMap<String, Vec<Place>> = BTreeMap::new();
        for (place, record) in &records {
            names.entry(record["name"].as_str().unwrap().to_owned()).or_default().push(place.clone());
        }
        Self { records, denied, names }
    }

    /// What closure calls impossible of what is offered, and what it does not.
    fn told(&self) -> (Vec<Place>, Vec<Place>) {
        let mut shards: BTreeMap<String, Shard> = BTreeMap::new();
        for (place, record) in &self.records {
            let name = record["name"].as_str().unwrap().to_owned();
            let shard = Shard::new(Ecosystem::Conda, name, Some(place.subdir.clone()));
            let shard = shards.entry(shard.key().to_string()).or_insert(shard);
            let record = Canonical::of(record).unwrap();
            shard.entries.insert(place.file.clone(), Entry { table: "packages".to_owned(), record });
        }
        let mut graph = Graph::new(Ecosystem::Conda);
        for (key, shard) in &shards {
            let now = self.judgement(shard);
            let known = Known {
                upstream: Some(shard),
                listed: None,
                facts: None,
                before: None,
                now: &now,
                before_fetch: false,
            };
            graph.add(Part::of(key, &known));
        }
        let [_, now] = graph.impossible();
        let place = |key: &str, file: String| Place { subdir: ShardKey::parse(key).subdir.unwrap(), file };
        let impossible: BTreeSet<Place> = now.into_iter().map(|one| place(&one.key, one.file)).collect();
        let offered = self.records.keys().filter(|place| !self.denied.contains(place)).cloned();
        offered.partition(|place| impossible.contains(place))
    }

    fn judgement(&self, shard: &Shard) -> Judgement {
        let subdir = shard.subdir.clone().unwrap();
        let judged = |file: &String| {
            let is_denied = self.denied.contains(&Place { subdir: subdir.clone(), file: file.clone() });
            let judged = Judged {
                version: String::new(),
                verdict: if is_denied { Verdict::Deny } else { Verdict::Admit },
                rules: vec![],
                review_by: None,
                denied_from: None,
                graced: None,
                flips_at: None,
                gone: false,
                assessed: BTreeMap::new(),
            };
            (file.clone(), judged)
        };
        Judgement {
            ecosystem: Ecosystem::Conda,
            name: shard.name.clone(),
            subdir: shard.subdir.clone(),
            coverage: Coverage::Verified,
            findings: BTreeMap::new(),
            artifacts: shard.entries.keys().map(judged).collect(),
            weighed: BTreeMap::new(),
        }
    }

    /// Whether the solver installs this very file, from what is offered or from everything.
    fn installs(&self, wanted: &Place, of_all: bool, platform: &Platform) -> bool {
        let record = &self.records[wanted];
        let text = |key: &str| record[key].as_str().unwrap();
        let wish = Wish::parse(&format!("{} =={} {}", text("name"), text("version"), text("build"))).unwrap();
        let mut pool = Pool::default();
        let (mut asked, mut read) = (BTreeSet::from([text("name").to_owned()]), 0);
        let mut met = asked.clone();
        while !asked.is_empty() {
            for place in asked.iter().flat_map(|name| &self.names[name]) {
                let is_other = self.records[place]["name"] == record["name"] && place != wanted;
                let is_out = is_other || (!of_all && self.denied.contains(place));
                if !is_out {
                    // What cannot be solved with is installed by nobody.
                    let _ = pool.add(place.clone(), &self.records[place].to_string());
                }
            }
            let next = pool.needs(read);
            read = pool.len();
            asked = next.into_iter().filter(|name| self.names.contains_key(name)).collect();
            // Also names of which nothing is offered come up again and again.
            asked.retain(|name| met.insert(name.clone()));
        }
        let task =
            Task { wishes: vec![&wish], excluded: &BTreeMap::<Place, Arc<str>>::new(), favoured: vec![] };
        match solve(&pool, platform, &task) {
            Ok(places) => places.contains(wanted),
            Err(Unsolved::Impossible(_)) => false,
            Err(other) => panic!("{wanted}: {other}"),
        }
    }
}

/// A channel of a few packages that need, constrain and exclude each other.
fn made_up(dice: &mut Dice) -> Channel {
    let mut records = BTreeMap::new();
    for name in ["a", "b", "c", "d", "e", "f"] {
        for version in ["1", "1.5", "2"] {
            let subdir = if dice.below(3) == 0 { "noarch" } else { "linux-64" };
            let some = |dice: &mut Dice, most: usize| -> Vec<String> {
                let count = dice.below(most);
                let others = ["a", "b", "c", "d", "e", "f", "elsewhere", "__glibc"];
                let others: Vec<&str> = others.into_iter().filter(|other| *other != name).collect();
                let how = ["", " >=1.5", " <2", " 1.*", " ==2", " >=1,<1.5", " * h_0", " 2 h_*"];
                (0..count).map(|_| format!("{}{}", others[dice.below(7)], how[dice.below(8)])).collect()
            };
            let build = ["h_0", "g_0"][dice.below(2)];
            let record = json!({"name": name, "version": version, "build": build, "build_number": 0,
                "subdir": subdir, "depends": some(dice, 3), "constrains": some(dice, 2)});
            let file = format!("{name}-{version}-{build}.conda");
            records.insert(Place { subdir: subdir.to_owned(), file }, record);
        }
    }
    Channel::new(records, |_| dice.below(3) == 0)
}

#[test]
fn what_is_called_impossible_no_solver_installs() {
    let mut dice = Dice(0x9e37_79b9);
    let platform = Platform::of("linux-64", &["__glibc=2".to_owned()]).unwrap();
    let (mut impossible, mut would, mut possible) = (0, 0, 0);
    for _ in 0..60 {
        let channel = made_up(&mut dice);
        let (gone, left) = channel.told();
        for place in &gone {
            assert!(!channel.installs(place, false, &platform), "{place}: {:?}", channel.records);
            would += usize::from(channel.installs(place, true, &platform));
        }
        impossible += gone.len();
        possible += left.iter().filter(|place| channel.installs(place, false, &platform)).count();
    }
    // Else it says nothing.
    assert!(impossible > 60 && would > 20 && possible > 200, "{impossible} {would} {possible}");
}

fn genuine(data: &Path) -> BTreeMap<Place, Value> {
    let mut records = BTreeMap::new();
    for subdir in ["linux-64", "noarch"] {
        let unpacked =
            Command::new("gzip").arg("-dc").arg(data.join(subdir).join("repodata.json.gz")).output();
        let index: Value = serde_json::from_slice(&unpacked.unwrap().stdout).unwrap();
        for table in ["packages", "packages.conda"] {
            for (file, record) in index[table].as_object().into_iter().flatten() {
                records.insert(Place { subdir: subdir.to_owned(), file: file.clone() }, record.clone());
            }
        }
    }
    records
}

#[test]
fn of_the_genuine_index_too_no_solver_installs_what_is_called_impossible() {
    /// Files that are drawn of each kind.
    const DRAWN: usize = 40;
    let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/conda/repodata");
    if !data.exists() {
        eprintln!("skipped: no genuine records at {}", data.display());
        return;
    }
    let mut dice = Dice(0x51f1_5eed);
    let channel = Channel::new(genuine(&data), |_| dice.below(3) == 0);
    let (gone, left) = channel.told();
    let platform = Platform::of("linux-64", &["__cuda=12.4".to_owned()]).unwrap();
    let (mut would, mut possible) = (0, 0);
    for _ in 0..DRAWN {
        let place = &gone[dice.below(gone.len())];
        assert!(!channel.installs(place, false, &platform), "{place}: {}", channel.records[place]);
        would += usize::from(channel.installs(place, true, &platform));
        possible += usize::from(channel.installs(&left[dice.below(left.len())], false, &platform));
    }
    assert!(would > 0 && possible > 0, "{would} {possible}");
}
