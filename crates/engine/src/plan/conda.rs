//! Environments of conda, solved exactly.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use airlock_core::ecosystem::Ecosystem;
use airlock_core::explain::Offered;
use airlock_core::id::Id;
use airlock_core::judge;
use airlock_core::shard::{Shard, ShardKey};
use airlock_core::spec::Spec;
use airlock_core::verdict::{Judged, Judgement};
use airlock_solve::{NOARCH, Place, Platform, Pool, Task, Unsolved, Wish, solve};

use super::{Asked, Change, Member, Nearest, Needs, Plan, unknown};
use crate::boxed;
use crate::channel::Exactly;
use crate::error::{Error, Result, joined};
use crate::explain;
use crate::view::{ChannelView, View};
use crate::{tree_edit, trees};

/// Names that are read at once.
const NAMES_AT_ONCE: usize = 256;
/// Records that cannot be read and are listed.
const UNREAD_MAX: usize = 20;

/// What a channel has of the packages that may be needed.
#[derive(Default)]
struct Loaded {
    pool: Pool,
    /// What may not be had, and why.
    excluded: BTreeMap<Place, Arc<str>>,
    unread: Vec<String>,
}

#[boxed]
pub(super) async fn plan(view: &View, channel: &ChannelView, needs: &Needs) -> Result<Plan> {
    let platform =
        Platform::of(&needs.subdir, &needs.virtual_packages).map_err(|e| Error::usage(e.to_string()))?;
    let python = needs.python.iter().map(|version| format!("python={version}"));
    let asked: Vec<String> = needs.environment.conda.iter().cloned().chain(python).collect();
    let read = |spec: &String| Wish::parse(spec).map_err(|e| Error::usage(e.to_string()));
    let wishes: Vec<Wish> = asked.iter().map(read).collect::<Result<_>>()?;
    let mut plan = Plan {
        platform: Some(needs.subdir.clone()),
        virtual_packages: platform.described(),
        ..Plan::of(channel)
    };
    if wishes.is_empty() {
        return Ok(Plan { passes: true, ..plan });
    }
    let names = wishes.iter().map(|wish| wish.name().to_owned()).collect();
    let loaded = load(view, channel, platform.subdir(), names).await?;
    let work = move || Ok(Answer::of(loaded, &platform, asked.into_iter().zip(wishes).collect()));
    let answer = joined(tokio::task::spawn_blocking(work).await)?;
    for place in &answer.would {
        plan.members.push(member(view, channel, &answer.loaded, place).await?);
    }
    for (asked, name) in &answer.without {
        plan.missing.push(unknown(view, channel, name, asked).await?);
    }
    plan.exactly = answer.exactly();
    plan.passes = answer.passes();
    plan.nearest = answer.nearest;
    plan.reasons = answer.reasons;
    plan.unread = answer.loaded.unread;
    Ok(plan)
}

/// Reads all that what is named may need, step by step.
async fn load(view: &View, channel: &ChannelView, subdir: &str, names: BTreeSet<String>) -> Result<Loaded> {
    let mut loaded = Loaded::default();
    let mut seen = BTreeSet::new();
    let mut wanted = names;
    while !wanted.is_empty() {
        let from = loaded.pool.len();
        let all: Vec<&String> = wanted.iter().collect();
        for names in all.chunks(NAMES_AT_ONCE) {
            loaded = read(view, channel, subdir, names, loaded).await?;
        }
        seen.append(&mut wanted);
        wanted = loaded.pool.needs(from).difference(&seen).cloned().collect();
    }
    Ok(loaded)
}

async fn read(
    view: &View,
    channel: &ChannelView,
    subdir: &str,
    names: &[&String],
    mut loaded: Loaded,
) -> Result<Loaded> {
    let db = &view.station().store.db;
    let upstream = view.object(channel.newest.inputs.upstream).await?;
    let subdirs: BTreeSet<&str> = [subdir, NOARCH].into();
    let key = |subdir: &str, name: &str| ShardKey { subdir: Some(subdir.to_owned()), name: name.to_owned() };
    let keys: Vec<String> =
        names.iter().flat_map(|name| subdirs.iter().map(|subdir| key(subdir, name).to_string())).collect();
    let keys = || keys.iter().map(String::as_str);
    let shards = tree_edit::find_many(db, upstream.tree, keys()).await?;
    let judgements = tree_edit::find_many(db, channel.newest.judgement, keys()).await?;
    let mut shard_objects = trees::objects(db, &shards.values().copied().collect::<Vec<Id<Shard>>>()).await?;
    let mut judged =
        trees::objects(db, &judgements.values().copied().collect::<Vec<Id<Judgement>>>()).await?;
    let mut parts = Vec::new();
    for (key, id) in shards {
        let judgement = judgements.get(&key).and_then(|id| judged.remove(&id.digest()));
        if let Some(shard) = shard_objects.remove(&id.digest()) {
            parts.push((key, shard, judgement));
        }
    }
    let blocks = channel.blocks.clone();
    let work = move || {
        for (key, shard, judgement) in parts {
            let judged = |file: &str| judgement.as_ref().and_then(|j| j.artifacts.get(file));
            let subdir = shard.subdir.clone().unwrap_or_default();
            for (file, entry) in &shard.entries {
                let place = Place { subdir: subdir.clone(), file: file.clone() };
                match loaded.pool.add(place.clone(), entry.record.as_str()) {
                    Ok(()) => {
                        let why =
                            blocks.reason(&key, file).map(str::to_owned).or_else(|| withheld(judged(file)));
                        loaded.excluded.extend(why.map(|why| (place, why.into())));
                    }
                    Err(error) if loaded.unread.len() < UNREAD_MAX => loaded.unread.push(error.to_string()),
                    Err(_) => {}
                }
            }
        }
        Ok(loaded)
    };
    joined(tokio::task::spawn_blocking(work).await)
}

/// Why a file may not be had, if it may not.
fn withheld(judged: Option<&Judged>) -> Option<String> {
    match judged {
        None => Some("not judged yet".to_owned()),
        Some(judged) if judged.is_offered() => None,
        Some(judged) => Some(format!("{}, {}", judged.verdict.word(), judge::reason(judged))),
    }
}

/// What solving says.
struct Answer {
    loaded: Loaded,
    /// What people would get if everything might be had.
    would: Vec<Place>,
    /// Specs that no record satisfies, with the name that they ask for.
    without: Vec<(String, String)>,
    nearest: Option<Nearest>,
    /// Its files.
    found: Vec<Place>,
    reasons: Vec<String>,
}

impl Answer {
    /// What would do, by the key of its shard: what people would get if it passes, else the nearest.
    fn exactly(&self) -> Option<Exactly> {
        let passes = self.passes();
        let places = if passes { &self.would } else { &self.found };
        let mut out = Exactly::new();
        for place in places {
            let [name, ..] = self.loaded.pool.about(place)?;
            let key = ShardKey { subdir: Some(place.subdir.clone()), name }.to_string();
            out.entry(key).or_default().insert(place.file.clone());
        }
        (!out.is_empty()).then_some(out)
    }

    fn passes(&self) -> bool {
        !self.would.is_empty() && self.would.iter().all(|place| !self.loaded.excluded.contains_key(place))
    }

    fn of(loaded: Loaded, platform: &Platform, wishes: Vec<(String, Wish)>) -> Self {
        let all: Vec<&Wish> = wishes.iter().map(|(_, wish)| wish).collect();
        let nothing = BTreeMap::new();
        let free = Task { wishes: all, excluded: &nothing, favoured: Vec::new() };
        let mut answer = Self {
            loaded,
            would: Vec::new(),
            without: Vec::new(),
            nearest: None,
            found: Vec::new(),
            reasons: Vec::new(),
        };
        match solve(&answer.loaded.pool, platform, &free) {
            Ok(would) => answer.would = would,
            Err(unsolved) => {
                answer.reasons = reasons(unsolved);
                let any = |wish: &Wish| {
                    answer.loaded.pool.of(wish.name()).any(|p| wish.allows(&answer.loaded.pool, p))
                };
                let without = wishes.iter().filter(|(_, wish)| !any(wish));
                answer.without =
                    without.map(|(asked, wish)| (asked.clone(), wish.name().to_owned())).collect();
            }
        }
        if !answer.passes() {
            answer.search(platform, &wishes);
        }
        answer
    }

    /// The nearest that passes: asked as it was asked; then without what nothing satisfies that may be had; then with the
    /// names alone.
    fn search(&mut self, platform: &Platform, wishes: &[(String, Wish)]) {
        let pool = &self.loaded.pool;
        let may = |place: &&Place| !self.loaded.excluded.contains_key(*place);
        let is_barred = |wish: &Wish| !pool.of(wish.name()).filter(may).any(|place| wish.allows(pool, place));
        let favoured: Vec<Place> = self.would.iter().filter_map(|place| self.nearest_of(place)).collect();
        let mut tried = BTreeSet::new();
        let mut last = Vec::new();
        for freed in [
            BTreeSet::new(),
            (0..wishes.len()).filter(|at| wishes.get(*at).is_some_and(|(_, wish)| is_barred(wish))).collect(),
            (0..wishes.len()).collect(),
        ] {
            if !tried.insert(freed.clone()) {
                continue;
            }
            let now: Vec<Wish> = wishes
                .iter()
                .enumerate()
                .map(|(at, (_, wish))| if freed.contains(&at) { wish.of_any_version() } else { wish.clone() })
                .collect();
            let task = Task {
                wishes: now.iter().collect(),
                excluded: &self.loaded.excluded,
                favoured: favoured.clone(),
            };
            match solve(pool, platform, &task) {
                Ok(places) => {
                    self.nearest = Some(self.told(&places, wishes, &freed));
                    self.found = places;
                    self.reasons = if freed.is_empty() { Vec::new() } else { last };
                    return;
                }
                Err(unsolved) if last.is_empty() => last = reasons(unsolved),
                Err(_) => {}
            }
        }
        self.reasons = last;
    }

    /// What may be had and is nearest to a file: itself; else of the nearest version the build whose name is most like it.
    fn nearest_of(&self, place: &Place) -> Option<Place> {
        let Loaded { pool, excluded, .. } = &self.loaded;
        if !excluded.contains_key(place) {
            return Some(place.clone());
        }
        let [name, version, build] = pool.about(place)?;
        let offered: Vec<(&Place, [String; 3])> = pool
            .of(&name)
            .filter(|other| !excluded.contains_key(*other))
            .filter_map(|other| Some((other, pool.about(other)?)))
            .collect();
        let versions = offered.iter().map(|(_, [_, version, _])| version.clone()).collect();
        let versions = Offered::versions(Ecosystem::Conda, versions);
        let nearest = versions.nearest(Ecosystem::Conda, &version)?;
        let alike = |other: &str| other.bytes().zip(build.bytes()).take_while(|(a, b)| a == b).count();
        let of_it = offered.iter().filter(|(_, [_, version, _])| version == nearest);
        of_it
            .max_by_key(|(_, [_, _, build])| (alike(build), build.clone()))
            .map(|(place, _)| (*place).clone())
    }

    fn told(&self, places: &[Place], wishes: &[(String, Wish)], freed: &BTreeSet<usize>) -> Nearest {
        let pool = &self.loaded.pool;
        let by_name = |places: &[Place]| -> BTreeMap<String, (String, Place)> {
            let one = |place: &Place| {
                let [name, version, build] = pool.about(place)?;
                Some((name, (format!("{version} {build}"), place.clone())))
            };
            places.iter().filter_map(one).collect()
        };
        let (was, is) = (by_name(&self.would), by_name(places));
        let names: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
        let changes = names.into_iter().filter(|name| was.get(*name) != is.get(*name)).map(|name| Change {
            name: name.clone(),
            from: was.get(name).map(|(version, _)| version.clone()),
            to: is.get(name).map(|(version, _)| version.clone()),
        });
        let asked = freed.iter().filter_map(|at| wishes.get(*at)).filter_map(|(asked, wish)| {
            let (version, place) = is.get(wish.name())?;
            let version = version.split(' ').next().unwrap_or_default();
            (!wish.allows(pool, place))
                .then(|| Asked { from: asked.clone(), to: format!("{}=={version}", wish.name()) })
        });
        Nearest {
            artifacts: places.iter().map(ToString::to_string).collect(),
            asked: asked.collect(),
            // What would have been got is not known where nothing can be solved at all.
            changes: if self.would.is_empty() { Vec::new() } else { changes.collect() },
        }
    }
}

fn reasons(unsolved: Unsolved) -> Vec<String> {
    match unsolved {
        Unsolved::Impossible(lines) => lines,
        other => vec![other.to_string()],
    }
}

/// One file of what people would get.
async fn member(view: &View, channel: &ChannelView, loaded: &Loaded, place: &Place) -> Result<Member> {
    let [name, version, _] = loaded.pool.about(place).unwrap_or_default();
    let artifact = place.to_string();
    let Some(why) = loaded.excluded.get(place) else {
        return Ok(Member {
            artifact,
            name,
            version,
            verdict: super::ADMITTED,
            why: None,
            rules: Vec::new(),
            advisories: Vec::new(),
            nearest: None,
        });
    };
    let spec = Spec::parse(Ecosystem::Conda, &name).map_err(|e| Error::usage(e.to_string()))?;
    let known = explain::explain(view, channel, &spec).await?;
    let explained = known.artifacts.iter().find(|one| one.artifact == artifact);
    let explained =
        explained.ok_or_else(|| Error::fault(format!("{artifact} is {why}, and is judged nowhere")))?;
    Ok(Member::of(explained))
}
