//! Exact solving of conda environments: which files a real client would install, and which instead where some may not
//! be had.
//!
//! The solver is that of pixi and rattler (`rattler_solve` over resolvo), so that what is said here is what happens
//! there. Everything of its types ends in this crate: they change often.
//!
//! Records come from outside. What a dependency may look like is bounded before the library reads it
//! ([`airlock_core::closure::is_bounded`]), a record that cannot be read is left out and said, and a solve ends after
//! [`SOLVE_TIME_MAX`].

mod platform;
mod pool;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rattler_conda_types::{MatchSpec, Matches as _, ParseMatchSpecOptions, RepoDataRecord, RepodataRevision};
use rattler_solve::{ChannelPriority, RepoDataIter, SolveError, SolveStrategy, SolverImpl as _, SolverTask};

pub use platform::{BadPlatform, Platform};
pub use pool::{BadRecord, Place, Pool};

/// Longest that one solve may take. The largest environments that genuine channels solve take a few seconds.
pub const SOLVE_TIME_MAX: Duration = Duration::from_secs(60);
/// Most lines of the solver's reasons that are kept.
pub const REASON_LINES_MAX: usize = 40;

/// The subdir of what suits every platform.
pub const NOARCH: &str = "noarch";

/// What a person asks for: a MatchSpec (CEP 29) that names one package.
#[derive(Debug, Clone)]
pub struct Wish {
    spec: MatchSpec,
    name: String,
}

/// A spec that cannot be solved for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{spec}` cannot be solved for: {reason}; write a name and, if wanted, versions and a build, such as `numpy>=1.26`"
)]
pub struct BadWish {
    spec: String,
    reason: String,
}

impl Wish {
    /// Reads a spec as people and environment files write it. A channel before `::` is dropped: everything comes from the
    /// one channel that is asked.
    ///
    /// # Errors
    ///
    /// What is no MatchSpec, or names more than one package.
    pub fn parse(text: &str) -> Result<Self, BadWish> {
        let bad = |reason: String| BadWish { spec: text.chars().take(120).collect(), reason };
        if !airlock_core::closure::is_bounded(text) || airlock_core::closure::has_expression(text) {
            return Err(bad(
                "it is too long, has too many parentheses, or is a regular expression".to_owned()
            ));
        }
        let options = ParseMatchSpecOptions::lenient().with_repodata_revision(RepodataRevision::V3);
        let mut spec = MatchSpec::from_str(text, options).map_err(|e| bad(e.to_string()))?;
        spec.channel = None;
        spec.namespace = None;
        let name = spec.name.as_exact().ok_or_else(|| bad("it names no single package".to_owned()))?;
        let name = name.as_normalized().to_owned();
        Ok(Self { spec, name })
    }

    /// Any file of the same package, and nothing else said.
    #[must_use]
    pub fn of_any_version(&self) -> Self {
        let spec = MatchSpec { name: self.spec.name.clone(), ..MatchSpec::default() };
        Self { spec, name: self.name.clone() }
    }

    /// The package, as it is looked up.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a file of the pool satisfies it.
    pub fn allows(&self, pool: &Pool, place: &Place) -> bool {
        pool.record(place).is_some_and(|record| self.spec.matches(record))
    }
}

impl std::fmt::Display for Wish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.spec.fmt(f)
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unsolved {
    /// Nothing satisfies all of it together: the solver's reasons, a line each.
    #[error("nothing satisfies all of it together")]
    Impossible(Vec<String>),
    /// It took longer than [`SOLVE_TIME_MAX`].
    #[error("it was not solved within {} seconds", SOLVE_TIME_MAX.as_secs())]
    TooLong,
    /// The solver does not accept the channel's records.
    #[error("the records of the channel cannot be solved with: {0}")]
    Records(String),
}

/// What to solve.
#[derive(Debug)]
pub struct Task<'a> {
    /// What is asked for.
    pub wishes: Vec<&'a Wish>,
    /// What may not be had, with the reason in a few words.
    pub excluded: &'a BTreeMap<Place, Arc<str>>,
    /// What to take where nothing speaks against it: at most one of each name counts.
    pub favoured: Vec<Place>,
}

/// Solves: the files to install, in order of their places.
///
/// # Errors
///
/// Where nothing satisfies everything, with the solver's reasons.
pub fn solve(pool: &Pool, platform: &Platform, task: &Task<'_>) -> Result<Vec<Place>, Unsolved> {
    let excluded =
        task.excluded.iter().filter_map(|(place, why)| Some((pool.url(place)?.clone(), why.clone())));
    // Clients take of what is asked for by name only the records that fit, which decides between builds that are else
    // equal; and a subdir each, since a build may stand in both.
    let mut asked: BTreeMap<&str, Vec<&Wish>> = BTreeMap::new();
    for wish in &task.wishes {
        asked.entry(wish.name()).or_default().push(wish);
    }
    let fits = |record: &RepoDataRecord| {
        let wishes = asked.get(record.package_record.name.as_normalized());
        wishes.is_none_or(|wishes| wishes.iter().any(|wish| wish.spec.matches(record)))
    };
    let of = |subdir: &str| {
        let records = pool.records().iter().filter(|r| r.package_record.subdir == subdir);
        RepoDataIter(records.filter(|record| fits(record)).collect())
    };
    let mut available: Vec<RepoDataIter<Vec<_>>> = vec![of(platform.subdir())];
    if platform.subdir() != NOARCH {
        available.push(of(NOARCH));
    }
    let solver_task = SolverTask {
        available_packages: available,
        locked_packages: task
            .favoured
            .iter()
            .filter_map(|place| pool.record(place))
            .filter(|r| fits(r))
            .collect(),
        pinned_packages: Vec::new(),
        virtual_packages: platform.packages().to_vec(),
        specs: task.wishes.iter().map(|wish| wish.spec.clone()).collect(),
        constraints: Vec::new(),
        timeout: Some(SOLVE_TIME_MAX),
        channel_priority: ChannelPriority::Strict,
        exclude_newer: None,
        strategy: SolveStrategy::Highest,
        dependency_overrides: Vec::new(),
        excluded_candidates: excluded.collect(),
        cancellation_token: None,
    };
    let solution = rattler_solve::resolvo::Solver.solve(solver_task).map_err(unsolved)?;
    let mut places: Vec<Place> =
        solution.records.iter().filter_map(|record| pool.place_of(&record.url)).cloned().collect();
    places.sort();
    Ok(places)
}

fn unsolved(error: SolveError) -> Unsolved {
    match error {
        SolveError::Unsolvable(reasons) => {
            let lines = reasons.iter().flat_map(|reason| reason.lines());
            let lines = lines.map(str::trim_end).filter(|line| !line.is_empty());
            Unsolved::Impossible(lines.take(REASON_LINES_MAX).map(str::to_owned).collect())
        }
        SolveError::Cancelled => Unsolved::TooLong,
        other => Unsolved::Records(other.to_string()),
    }
}
