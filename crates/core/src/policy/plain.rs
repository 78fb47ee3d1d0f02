//! A policy in plain English, for people who sign it and do not write it.

use std::fmt::Write as _;

use super::{Action, Age, ArtifactPredicate, Bound, Condition, FindingPredicate, Policy, Rule};

impl Policy {
    /// What it does, a sentence to a rule.
    pub fn plain(&self) -> String {
        let mut out = format!("Policy `{}`. {}\n", self.name, self.description);
        for rule in &self.rules {
            let _ = writeln!(out, "- {}: {}", rule.name, rule.plain());
        }
        if !self.scores.is_empty() {
            let order: Vec<&str> = self.scores.iter().map(|p| p.text.as_str()).collect();
            let _ = writeln!(
                out,
                "Of several scores the first of these counts: {}; where there is none of them, the highest.",
                order.join(", then ")
            );
        }
        if !self.reserved.is_empty() {
            let names: Vec<&str> = self.reserved.iter().map(super::Pattern::as_str).collect();
            let _ = writeln!(out, "Reserved for software made in-house: {}.", names.join(", "));
        }
        let _ = writeln!(
            out,
            "The strictest rule that matches decides. A rule that would deny, and of which it cannot be known whether it matches, holds back. What is published already and comes to be held stays for {}, so that somebody can look at it.",
            self.hold_deadline
        );
        out
    }
}

impl Rule {
    /// What it does, in a sentence.
    pub fn plain(&self) -> String {
        let does = match self.action {
            Action::Warn => "Warns of",
            Action::Hold => "Holds back",
            Action::Deny => "Denies",
        };
        let what = match (self.when.needs_finding(), self.when.binds_finding()) {
            (true, _) => "an artifact with a finding of which this is so",
            (false, true) => "an artifact of which this is so, by itself or with one of its findings",
            (false, false) => "an artifact of which this is so",
        };
        let grace = self.grace.map_or_else(String::new, |grace| {
            format!(
                " What is published already stays for {grace} more, unless what denies it is exploited or malicious."
            )
        });
        format!("{does} {what}: {}.{grace}", self.when.plain(false))
    }
}

impl Condition {
    fn plain(&self, nested: bool) -> String {
        let join = |parts: &[Self], word: &str| {
            let said: Vec<String> = parts.iter().map(|part| part.plain(parts.len() > 1)).collect();
            match said.len() {
                1 => parts.iter().map(|part| part.plain(nested)).collect(),
                _ if nested => format!("({})", said.join(word)),
                _ => said.join(word),
            }
        };
        match self {
            Self::All(parts) => join(parts, " and "),
            Self::Any(parts) => join(parts, " or "),
            Self::Not(part) => format!("it is not so that ({})", part.plain(false)),
            Self::AnyFinding(part) => format!("this is so of some finding ({})", part.plain(false)),
            Self::NoFinding(part) => format!("this is so of no finding ({})", part.plain(false)),
            Self::Finding(predicate) => predicate.plain(),
            Self::Artifact(predicate) => predicate.plain(),
        }
    }
}

/// `a, b or c`
fn or<T: AsRef<str>>(words: impl IntoIterator<Item = T>) -> String {
    let words: Vec<T> = words.into_iter().collect();
    match words.split_last() {
        None => String::new(),
        Some((last, [])) => last.as_ref().to_owned(),
        Some((last, rest)) => {
            let rest: Vec<&str> = rest.iter().map(AsRef::as_ref).collect();
            format!("{} or {}", rest.join(", "), last.as_ref())
        }
    }
}

/// One of two texts.
const fn either(flag: bool, yes: &'static str, no: &'static str) -> &'static str {
    if flag { yes } else { no }
}

impl Bound {
    fn plain(self, number: impl Fn(f64) -> String) -> String {
        match self {
            Self::Above(x) => format!("above {}", number(x)),
            Self::AtLeast(x) => format!("at least {}", number(x)),
            Self::Below(x) => format!("below {}", number(x)),
            Self::AtMost(x) => format!("at most {}", number(x)),
        }
    }
}

fn score(number: f64) -> String {
    format!("{number:.1}")
}

fn share(number: f64) -> String {
    format!("{} %", short(number * 100.0))
}

/// With as many digits as it takes, and no more than people write.
fn short(number: f64) -> String {
    format!("{number:.4}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// In the unit in which it is a short number, else in bytes.
fn bytes(number: f64) -> String {
    const UNITS: [(&str, f64); 6] = [
        ("GB", 1e9),
        ("GiB", 1_073_741_824.0),
        ("MB", 1e6),
        ("MiB", 1_048_576.0),
        ("kB", 1e3),
        ("KiB", 1024.0),
    ];
    let hundredths = |size: f64| number / size * 100.0;
    let is_short = |size: f64| number >= size && (hundredths(size) - hundredths(size).round()).abs() < 1e-4;
    match UNITS.iter().find(|(_, size)| is_short(*size)) {
        Some((unit, size)) => format!("{} {unit}", short(number / size)),
        None => format!("{number} bytes"),
    }
}

impl Age {
    fn plain(self, what: &str) -> String {
        format!("{what} less than {} ago", self.than).replacen(
            "less",
            either(self.younger, "less", "more"),
            1,
        )
    }
}

impl FindingPredicate {
    fn plain(&self) -> String {
        match self {
            Self::CvssMissing => "it has no CVSS score".to_owned(),
            Self::Cvss(bound, None) => format!("its CVSS score is {}", bound.plain(score)),
            Self::Cvss(bound, Some(version)) => {
                format!("its highest score of CVSS {version} is {}", bound.plain(score))
            }
            Self::CvssVector(metrics) => {
                let parts: Vec<String> = metrics.iter().map(|m| format!("{}:{}", m.name, m.value)).collect();
                format!("its CVSS vector has {}", parts.join(" and "))
            }
            Self::Severity(any) => format!("its severity is {}", or(any)),
            Self::Status(any) => format!("its state is {}", or(any.iter().map(|s| s.name()))),
            Self::Confidence(any) => {
                format!("that it concerns this version is {}", or(any.iter().map(|c| c.name())))
            }
            Self::Kev(yes) => format!("it is {}known to be exploited", either(*yes, "", "not ")),
            Self::Epss(bound) => format!("its probability of exploitation (EPSS) is {}", bound.plain(share)),
            Self::EpssPercentile(bound) => {
                format!("its rank among all probabilities of exploitation (EPSS) is {}", bound.plain(share))
            }
            Self::Malicious(yes) => {
                format!("it {}", either(*yes, "reports malware", "does not report malware"))
            }
            Self::Cwe(any) => format!("its weakness is {}", or(any)),
            Self::FixAvailable(yes) => {
                either(*yes, "a version that fixes it is known", "no version that fixes it is known")
                    .to_owned()
            }
            Self::Age(age) => age.plain("it was published"),
        }
    }
}

impl ArtifactPredicate {
    fn plain(&self) -> String {
        let patterns = |any: &[super::Pattern]| or(any.iter().map(super::Pattern::as_str));
        let named = |any: &[super::Named]| or(any.iter().map(super::Named::text));
        match self {
            Self::Ecosystem(any) => format!("it is a package of {}", or(any.iter().map(ToString::to_string))),
            Self::Name(any) => format!("its name is {}", patterns(any)),
            Self::Reserved(yes) => {
                format!("its name is {}reserved for software made in-house", either(*yes, "", "not "))
            }
            Self::Version(range) => format!("its version is {}", range.as_str()),
            Self::Build(any) => format!("its build is {}", patterns(any)),
            Self::Platform(any) => format!("its platform is {}", patterns(any)),
            Self::Python(any) => {
                format!("it can be used with Python {}", or(any.iter().map(super::Python::as_str)))
            }
            Self::Kind(any) => format!("it is a file of the kind {}", or(any.iter().map(|k| k.name()))),
            Self::Size(bound) => format!("its size is {}", bound.plain(bytes)),
            Self::Licence(any) => format!("it may be used under {} alone", named(any)),
            Self::LicenceNeeds(any) => format!("it cannot be used without {}", named(any)),
            Self::LicenceUnknown => "nobody states a licence for it that can be read".to_owned(),
            Self::Age(age) => age.plain("it was made"),
            Self::FirstSeenWithin(span) => format!("this station first saw it less than {span} ago"),
            Self::Yanked(yes) => {
                format!("its publisher {}", either(*yes, "withdrew it", "did not withdraw it"))
            }
            Self::Removed(yes) => {
                format!("its index {}", either(*yes, "lists it no longer", "still lists it"))
            }
            Self::ProjectStatus(any) => format!("its index calls the project {}", or(any)),
            Self::Attested(yes) => {
                format!("its index names {} attestation of where it was made", either(*yes, "an", "no"))
            }
            Self::Source(any) => format!("it comes from {}", patterns(any)),
            Self::Coverage(any) => {
                format!("its coverage by advisories is {}", or(any.iter().map(|c| c.name())))
            }
            Self::DependencyDenied => "what it depends on is offered no more".to_owned(),
            Self::FeedOlderThan(span) => {
                format!("some feed of advisories was last read more than {span} ago")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::policy::{DEFAULT, Policy};

    #[test]
    fn the_default_policy_reads_as_sentences() {
        let plain = Policy::parse(DEFAULT).unwrap().plain();
        for sentence in [
            "- malicious: Denies an artifact with a finding of which this is so: it reports malware.",
            "- cvss-above-7: Denies an artifact with a finding of which this is so: its CVSS score is above 7.0 and its state is reported or active.",
            "- stale-advisories: Holds back an artifact of which this is so: some feed of advisories was last read more than 45 days ago.",
            "stays for 14 days",
        ] {
            assert!(plain.contains(sentence), "{plain}");
        }
    }

    #[test]
    fn what_is_nested_is_told_apart() {
        let text = "[policy]\nname = \"p\"\n[[rule]]\nname = \"r\"\naction = \"hold\"\nwhen = { any = [{ all = [{ yanked = true }, { kind = [\"sdist\"] }] }, { not = { any = [{ removed = false }, { name = [\"a\", \"b\", \"c\"] }] } }] }\n";
        let plain = Policy::parse(text).unwrap().rules[0].plain();
        assert_eq!(
            plain,
            "Holds back an artifact of which this is so: (its publisher withdrew it and it is a file of the kind sdist) or it is not so that (its index still lists it or its name is a, b or c)."
        );
        let plain = |when: &str| {
            let text =
                format!("[policy]\nname = \"p\"\n[[rule]]\nname = \"r\"\naction = \"deny\"\nwhen = {when}\n");
            Policy::parse(&text).unwrap().rules[0]
                .plain()
                .split_once(": ")
                .map(|(a, b)| (a.to_owned(), b.to_owned()))
                .unwrap()
        };
        let both = "{ all = [{ not = { yanked = true } }, { removed = true }] }";
        assert_eq!(
            plain(both).1,
            "it is not so that (its publisher withdrew it) and its index lists it no longer."
        );
        let one = "{ all = [{ removed = true }, { all = [{ any = [{ yanked = true }, { kind = [\"sdist\"] }] }] }] }";
        let told =
            "its index lists it no longer and (its publisher withdrew it or it is a file of the kind sdist).";
        assert_eq!(plain(one).1, told);
        assert_eq!(
            plain("{ no_finding = { kev = true } }").1,
            "this is so of no finding (it is known to be exploited)."
        );
        let mixed = "{ any = [{ yanked = true }, { malicious = true }] }";
        let told = "Denies an artifact of which this is so, by itself or with one of its findings";
        assert_eq!(plain(mixed).0, told);
        assert_eq!(
            plain("{ epss = { above = 0.07 } }").1,
            "its probability of exploitation (EPSS) is above 7 %."
        );
        for (size, told) in [
            ("\"4.1 GiB\"", "4.1 GiB"),
            ("\"500 MB\"", "500 MB"),
            ("1234567", "1234567 bytes"),
            ("0", "0 bytes"),
        ] {
            assert_eq!(
                plain(&format!("{{ size = {{ above = {size} }} }}")).1,
                format!("its size is above {told}.")
            );
        }
    }
}
