//! The fixpoint over all parts of a channel.

use std::collections::{BTreeMap, HashMap};

use super::{Numbered, Part, Requirement, position};
use crate::ecosystem::Ecosystem;

/// Comparisons of what one package needs with files that may satisfy it. A package of a large channel takes some hundred
/// thousand; one that takes more is made to, and counts as one whose needs nothing satisfies.
pub const COMPARISONS_MAX: u32 = 10_000_000;

/// The verdicts by which it is asked what is possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Those of the judgement before.
    Before,
    /// Those of the judgement now.
    Now,
}

/// An artifact that can no longer be installed, and the dependency of which nothing is left.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Impossible {
    /// The shard.
    pub key: String,
    /// The file.
    pub file: String,
    /// The dependency, as its record writes it; several on one name are joined.
    pub needs: String,
    /// Whether it was offered before.
    pub was_offered: bool,
}

/// Everything in a channel, with what needs what.
#[derive(Debug)]
pub struct Graph {
    ecosystem: Ecosystem,
    texts: Vec<String>,
    /// For each text, that of the name that it is about.
    name_of: Vec<u32>,
    by_text: HashMap<String, u32>,
    keys: Vec<String>,
    subdirs: BTreeMap<String, u16>,
    names: BTreeMap<String, Vec<u32>>,
    nodes: Vec<Node>,
    needs: Vec<Need>,
    by_need: HashMap<Vec<u32>, u32>,
}

#[derive(Debug)]
struct Node {
    key: u32,
    name: u32,
    subdir: u16,
    file: String,
    version: u32,
    build: u32,
    build_number: u64,
    is_offered: [bool; 2],
    /// Whether it is asked of it now whether it could be installed: nothing but its bytes keeps it out.
    is_asked: bool,
}

/// What some artifacts need of one name: all of these texts at once.
#[derive(Debug)]
struct Need {
    texts: Vec<u32>,
    by: Vec<u32>,
    candidates: Vec<u32>,
    /// Whether everybody who has it has too many.
    is_over: bool,
}

impl Graph {
    /// That of an empty channel.
    pub fn new(ecosystem: Ecosystem) -> Self {
        Self {
            ecosystem,
            texts: Vec::new(),
            name_of: Vec::new(),
            by_text: HashMap::new(),
            keys: Vec::new(),
            subdirs: BTreeMap::new(),
            names: BTreeMap::new(),
            nodes: Vec::new(),
            needs: Vec::new(),
            by_need: HashMap::new(),
        }
    }

    /// Takes in a shard.
    pub fn add(&mut self, part: Part) {
        let shard = part.key();
        let texts: Vec<u32> = part.texts.into_iter().map(|text| self.text(text)).collect();
        let at = |local: u32| texts.get(local as usize).copied().unwrap_or_default();
        let key = position(self.keys.len());
        self.keys.push(part.key);
        let next = u16::try_from(self.subdirs.len()).unwrap_or(u16::MAX);
        let subdir = *self.subdirs.entry(shard.subdir.unwrap_or_default()).or_insert(next);
        let name = self.text(shard.name.clone());
        let all = |list: &[u32]| list.iter().map(|local| at(*local)).collect::<Vec<u32>>();
        let needs: Vec<Vec<u32>> = part
            .needs
            .iter()
            .map(|said| self.needs_of(&all(&said.depends), &all(&said.constrains)))
            .collect();
        let first = position(self.nodes.len());
        for node in part.nodes {
            let id = position(self.nodes.len());
            for need in needs.get(node.needs as usize).into_iter().flatten() {
                self.needs[*need as usize].by.push(id);
            }
            self.nodes.push(Node {
                key,
                name,
                subdir,
                file: node.file,
                version: at(node.version),
                build: at(node.build),
                build_number: node.build_number,
                is_offered: node.is_offered,
                is_asked: node.is_asked,
            });
        }
        self.names.entry(shard.name).or_default().extend(first..position(self.nodes.len()));
    }

    fn text(&mut self, text: String) -> u32 {
        if let Some(at) = self.by_text.get(&text) {
            return *at;
        }
        let name = name_of(self.ecosystem, &text);
        let at = position(self.texts.len());
        self.texts.push(text.clone());
        self.name_of.push(at);
        self.by_text.insert(text, at);
        // The name that it is about is a text too.
        if self.texts.get(at as usize) != Some(&name) {
            let name = self.text(name);
            self.name_of[at as usize] = name;
        }
        at
    }

    /// The needs of what says this: what it depends on by name, each with what else it says of that name.
    fn needs_of(&mut self, depends: &[u32], constrains: &[u32]) -> Vec<u32> {
        let named = |text: &u32| (self.name_of.get(*text as usize).copied().unwrap_or_default(), *text);
        let mut all: Vec<(u32, u32)> = depends.iter().map(named).collect();
        all.sort_unstable();
        let needed: Vec<u32> = all.iter().map(|(name, _)| *name).collect();
        let is_needed = |name: u32| needed.binary_search(&name).is_ok();
        all.extend(constrains.iter().map(named).filter(|(name, _)| is_needed(*name)));
        all.sort_unstable();
        all.dedup();
        let mut out = Vec::new();
        for of_name in all.chunk_by(|a, b| a.0 == b.0) {
            let texts: Vec<u32> = of_name.iter().map(|(_, text)| *text).collect();
            let next = position(self.needs.len());
            let need = *self.by_need.entry(texts.clone()).or_insert(next);
            if need == next {
                self.needs.push(Need { texts, by: Vec::new(), candidates: Vec::new(), is_over: false });
            }
            out.push(need);
        }
        out
    }

    /// Everything that is offered and cannot be installed, by the verdicts of before and of now, in order.
    pub fn impossible(&mut self) -> [Vec<Impossible>; 2] {
        self.match_candidates();
        // For each artifact, the needs that it may satisfy.
        let mut satisfies: Vec<Vec<u32>> = vec![Vec::new(); self.nodes.len()];
        for (need, of) in self.needs.iter().enumerate() {
            for candidate in &of.candidates {
                satisfies[*candidate as usize].push(position(need));
            }
        }
        let of = |when| self.of(when, &satisfies);
        std::thread::scope(|threads| {
            let before = std::thread::Builder::new().spawn_scoped(threads, || of(When::Before));
            let now = of(When::Now);
            let before = match before {
                // What ended the other thread ends this one.
                Ok(before) => before.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                // The system has no thread left to give.
                Err(_) => of(When::Before),
            };
            [before, now]
        })
    }

    /// Finds what may satisfy each need.
    fn match_candidates(&mut self) {
        let ecosystem = self.ecosystem;
        let mut versions: HashMap<u32, Option<Numbered>> = HashMap::new();
        // For each version, the need that asked of it last, and what it was told.
        let mut asked: Vec<(u32, bool)> = vec![(u32::MAX, false); self.texts.len()];
        // By package: what its needs took so far. One that many have is charged to one that has room.
        let mut spent: HashMap<u32, u32> = HashMap::new();
        for (at, need) in self.needs.iter_mut().enumerate() {
            let at = position(at);
            let read = |text: &u32| Requirement::parse(ecosystem, self.texts.get(*text as usize)?);
            let requirements: Option<Vec<Requirement>> = need.texts.iter().map(read).collect();
            // What is not understood, or not all of it, requires nothing.
            let Some(requirements) = requirements else { continue };
            if requirements.iter().any(|one| one.is_vague) {
                continue;
            }
            let owners = need.by.iter().map(|id| self.nodes[*id as usize].name);
            let Some(owner) = owners.min_by_key(|name| spent.get(name).copied().unwrap_or_default()) else {
                continue;
            };
            let spent = spent.entry(owner).or_default();
            let Some(name) = requirements.first().map(|first| first.name.as_str()) else { continue };
            for id in self.names.get(name).into_iter().flatten() {
                let node = &self.nodes[*id as usize];
                *spent += 1;
                if *spent > COMPARISONS_MAX {
                    need.is_over = true;
                    break;
                }
                let told = &mut asked[node.version as usize];
                if told.0 != at {
                    let text = &self.texts[node.version as usize];
                    let version =
                        versions.entry(node.version).or_insert_with(|| Numbered::read(ecosystem, text));
                    *told = (at, requirements.iter().all(|one| one.allows_version(version.as_ref())));
                }
                let fits = told.1;
                let build = &self.texts[node.build as usize];
                if fits && requirements.iter().all(|one| one.allows_build(build, node.build_number)) {
                    need.candidates.push(*id);
                }
            }
            if need.is_over {
                need.candidates = Vec::new();
            }
        }
    }

    fn of(&self, when: When, satisfies: &[Vec<u32>]) -> Vec<Impossible> {
        let noarch = self.subdirs.get("noarch").copied();
        let platforms: Vec<u16> =
            self.subdirs.values().copied().filter(|subdir| Some(*subdir) != noarch).collect();
        // The needs that an artifact dies of, on each platform on which it does.
        let mut died: BTreeMap<u32, (usize, u32)> = BTreeMap::new();
        let universes: Vec<Vec<u16>> = match (platforms.as_slice(), noarch) {
            ([], Some(noarch)) => vec![vec![noarch]],
            (all, noarch) => {
                all.iter().map(|platform| noarch.into_iter().chain([*platform]).collect()).collect()
            }
        };
        for universe in &universes {
            for (id, need) in self.dead_in(when, universe, satisfies) {
                died.entry(id).or_insert((0, need)).0 += 1;
            }
        }
        let mut out: Vec<Impossible> = died
            .into_iter()
            .filter_map(|(id, (times, need))| {
                let node = &self.nodes[id as usize];
                let everywhere = if Some(node.subdir) == noarch { universes.len() } else { 1 };
                (times == everywhere).then(|| Impossible {
                    key: self.keys[node.key as usize].clone(),
                    file: node.file.clone(),
                    needs: self.told(need),
                    was_offered: node.is_offered[0],
                })
            })
            .collect();
        out.sort();
        out
    }

    /// What cannot be installed where these subdirs are used together, with the need of which nothing is left: of what is
    /// offered, and now also of what would be but for its bytes, of which it matters to nothing else.
    fn dead_in(&self, when: When, universe: &[u16], satisfies: &[Vec<u32>]) -> Vec<(u32, u32)> {
        let is_in = |id: u32| universe.contains(&self.nodes[id as usize].subdir);
        let offered = |id: u32| self.nodes[id as usize].is_offered[usize::from(when == When::Now)];
        let mut alive: Vec<bool> =
            (0..position(self.nodes.len())).map(|id| is_in(id) && offered(id)).collect();
        let mut left: Vec<u32> = Vec::with_capacity(self.needs.len());
        let mut here: Vec<bool> = Vec::with_capacity(self.needs.len());
        let mut broken: Vec<u32> = Vec::new();
        for (need, of) in self.needs.iter().enumerate() {
            here.push(of.is_over || of.candidates.iter().any(|id| is_in(*id)));
            let still = of.candidates.iter().filter(|id| alive[**id as usize]).count();
            left.push(position(still));
            // Where there never was a candidate here, it comes from elsewhere.
            if here[need] && still == 0 {
                broken.push(position(need));
            }
        }
        let mut dead = Vec::new();
        while let Some(need) = broken.pop() {
            for id in &self.needs[need as usize].by {
                if !std::mem::replace(&mut alive[*id as usize], false) {
                    continue;
                }
                dead.push((*id, need));
                for other in &satisfies[*id as usize] {
                    let left = &mut left[*other as usize];
                    *left -= 1;
                    if *left == 0 {
                        broken.push(*other);
                    }
                }
            }
        }
        if when == When::Now {
            let lacks = |need: &usize| here[*need] && left[*need] == 0;
            let is_only_asked = |id: u32| is_in(id) && self.nodes[id as usize].is_asked && !offered(id);
            let mut found: BTreeMap<u32, u32> = BTreeMap::new();
            for need in (0..self.needs.len()).filter(lacks) {
                for id in self.needs[need].by.iter().filter(|id| is_only_asked(**id)) {
                    found.entry(*id).or_insert(position(need));
                }
            }
            dead.extend(found);
        }
        dead
    }

    fn told(&self, need: u32) -> String {
        let texts = self.needs[need as usize].texts.iter().map(|text| self.texts[*text as usize].as_str());
        texts.collect::<Vec<_>>().join(" and ")
    }
}

/// The name that a dependency is about; one that is not understood is about itself.
fn name_of(ecosystem: Ecosystem, text: &str) -> String {
    Requirement::parse(ecosystem, text).map_or_else(|| text.to_owned(), |requirement| requirement.name)
}
