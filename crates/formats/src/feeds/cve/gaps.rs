//! What is affected where all is but some: the gaps between those.

use std::borrow::Cow;
use std::cmp::Ordering;

use airlock_core::version::{Event, Order, Range};

/// Orders in which holes are put, the first that reads all of them. Which one the package has is not known here; each gap
/// is a range of its own, so that where they disagree one gap is wrong, and not all behind it.
const ORDERS: [Order; 3] = [Order::Pep440, Order::Letters, Order::Conda];

/// Up to where something reaches.
#[derive(Clone)]
pub(super) enum End<'a> {
    Never,
    Before(Cow<'a, str>),
    At(&'a str),
}

/// From where on and up to where versions are not affected.
pub(super) struct Hole<'a> {
    pub(super) from: &'a str,
    pub(super) to: End<'a>,
}

impl End<'_> {
    fn version(&self) -> Option<&str> {
        match self {
            Self::Never => None,
            Self::Before(version) => Some(version),
            Self::At(version) => Some(version),
        }
    }

    /// What begins behind it.
    fn behind(&self) -> Option<Event> {
        match self {
            Self::Never => None,
            Self::Before(version) => Some(Event::Introduced(version.clone().into_owned())),
            Self::At(version) => Some(Event::After((*version).to_owned())),
        }
    }
}

/// One range for each gap; none where a hole ends before it begins, or no order can read all of them.
pub(super) fn gaps(mut holes: Vec<Hole<'_>>) -> Option<Vec<Range>> {
    let reads = |order: &Order| {
        let versions = |hole: &Hole<'_>| {
            let reads = |version: &str| order.compare(version, version).is_some();
            reads(hole.from) && hole.to.version().is_none_or(reads)
        };
        holes.iter().all(versions)
    };
    let order = ORDERS.into_iter().find(reads)?;
    let compare = |a: &str, b: &str| match (a, b) {
        _ if a == b => Ordering::Equal,
        // Before every version.
        ("0", _) => Ordering::Less,
        (_, "0") => Ordering::Greater,
        _ => order.compare(a, b).unwrap_or(Ordering::Equal),
    };
    let is_inverted = |hole: &Hole<'_>| hole.to.version().is_some_and(|to| compare(hole.from, to).is_gt());
    if holes.iter().any(is_inverted) {
        return None;
    }
    holes.sort_by(|a, b| compare(a.from, b.from));
    let mut out = Vec::new();
    // Up to where nothing is affected: at first that is before every version.
    let mut reached = End::Before(Cow::Borrowed("0"));
    for hole in holes {
        let Some(begin) = reached.behind() else { break };
        let joins = reached.version().is_none_or(|to| compare(hole.from, to).is_le());
        if !joins {
            out.push(Range { events: vec![begin, Event::Fixed(hole.from.to_owned())] });
        }
        let farther = match (hole.to.version(), reached.version()) {
            (Some(new), Some(old)) => {
                let includes = matches!((&hole.to, &reached), (End::At(_), End::Before(_)));
                compare(new, old).then(if includes { Ordering::Greater } else { Ordering::Equal }).is_gt()
            }
            _ => true,
        };
        if farther {
            reached = hole.to;
        }
    }
    out.extend(reached.behind().map(|begin| Range { events: vec![begin] }));
    Some(out)
}
