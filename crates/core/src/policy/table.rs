//! Every predicate that a policy may use: the one list from which faults are explained, forms are built, and which the
//! manual is held against.

/// What a predicate speaks of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum About {
    /// Other conditions.
    Conditions,
    /// The artifact.
    Artifact,
    /// One finding of it.
    Finding,
}

/// One predicate.
#[derive(Clone, Copy, Debug)]
pub struct Predicate {
    /// Its name in a policy.
    pub name: &'static str,
    /// What it speaks of.
    pub about: About,
    /// A value as it is written, which is valid.
    pub example: &'static str,
    /// What it holds for, in a line.
    pub says: &'static str,
}

const fn row(name: &'static str, about: About, example: &'static str, says: &'static str) -> Predicate {
    Predicate { name, about, example, says }
}

/// All of them.
pub const PREDICATES: [Predicate; 40] = {
    use About::{Artifact as A, Conditions as C, Finding as F};
    [
        row("all", C, "[{ yanked = true }, { malicious = true }]", "every one of these holds"),
        row("any", C, "[{ yanked = true }, { malicious = true }]", "at least one of these holds"),
        row("not", C, "{ yanked = true }", "this does not hold; of what is unknown that is unknown too"),
        row("any_finding", C, "{ kev = true }", "some finding of the artifact satisfies this"),
        row("no_finding", C, "{ kev = true }", "no finding of the artifact satisfies this"),
        row("ecosystem", A, "[\"conda\"]", "the ecosystem is one of these: conda, pypi"),
        row("name", A, "[\"py*\", \"numpy\"]", "the name matches one of these patterns (`*`, `?`)"),
        row(
            "reserved",
            A,
            "true",
            "the name matches one of `reserved` in [policy]: names of software made in-house",
        ),
        row("version", A, "\">=1.2,<2\"", "the version is in this range, in the order of the ecosystem"),
        row("build", A, "[\"*cuda*\"]", "the conda build string matches one of these patterns"),
        row(
            "platform",
            A,
            "[\"linux-*\", \"manylinux*\"]",
            "the conda subdir, or a platform tag of the wheel, matches; an sdist is `any`",
        ),
        row(
            "python",
            A,
            "[\"3.12\"]",
            "it can be used with one of these versions of Python, by its record and file name",
        ),
        row("kind", A, "[\"sdist\"]", "the file is one of these: conda, tar.bz2, wheel, sdist"),
        row(
            "size",
            A,
            "{ above = \"500 MB\" }",
            "the file's size compares so: bytes, or a number with kB, MB, GB, KiB, MiB, GiB",
        ),
        row(
            "licence",
            A,
            "[\"MIT\", \"BSD-*\", \"family:permissive\"]",
            "it may be used under these alone, by its SPDX expression; `\"unknown\"`: nobody states a licence that can be read",
        ),
        row(
            "licence_needs",
            A,
            "[\"AGPL-3.0\", \"family:network-copyleft\"]",
            "it cannot be used without one of these, by its SPDX expression",
        ),
        row("younger_than", A, "\"14 days\"", "its index says that it was made less than this ago"),
        row("older_than", A, "\"1825 days\"", "its index says that it was made more than this ago"),
        row(
            "first_seen_within",
            A,
            "\"14 days\"",
            "this station first read a record of it less than this ago, whatever its index says",
        ),
        row("yanked", A, "true", "its publisher withdrew it (PEP 592), or its channel revoked it"),
        row("removed", A, "true", "its index lists it no longer"),
        row(
            "project_status",
            A,
            "[\"archived\", \"quarantined\"]",
            "the index says so of the project (PEP 792): active, archived, deprecated, quarantined; where it says nothing, as conda's, it is active",
        ),
        row(
            "attested",
            A,
            "true",
            "its index names a provenance attestation (PEP 740); conda's name none, so that it is unknown there",
        ),
        row(
            "source",
            A,
            "[\"https://upstream.example/*\"]",
            "the location that the channel is read from matches, or `bundles:STREAM`",
        ),
        row(
            "coverage",
            A,
            "[\"unknown\"]",
            "how well advisories cover the package: verified, automatic, none needed, unknown",
        ),
        row("feed_older_than", A, "\"45 days\"", "some feed of advisories was last read longer ago"),
        row(
            "dependency_denied",
            A,
            "true",
            "what it depends on was in the channel and is offered no more: it can no longer be installed; cannot stand under `not`",
        ),
        row(
            "cvss",
            F,
            "{ above = 7.0, version = \"3.1\" }",
            "the score compares so, or the highest of that version of CVSS; `\"missing\"`: there is none",
        ),
        row("cvss_vector", F, "[\"AV:N\", \"PR:N\"]", "the vector that counts has all these values"),
        row(
            "severity",
            F,
            "[\"high\", \"critical\"]",
            "the band of the score: none, low, medium, high, critical",
        ),
        row(
            "status",
            F,
            "[\"reported\", \"active\"]",
            "the state: reported, active, mitigated, cleared, disputed",
        ),
        row(
            "confidence",
            F,
            "[\"automatic\"]",
            "how sure it is that it concerns the version: verified, automatic, undecided",
        ),
        row("kev", F, "true", "it is known to be exploited (CISA's catalogue)"),
        row("epss", F, "{ at_least = 0.1 }", "the probability of exploitation compares so"),
        row("epss_percentile", F, "{ above = 0.95 }", "so does its rank among all that EPSS scores"),
        row("malicious", F, "true", "it reports malware"),
        row("cwe", F, "[\"CWE-502\"]", "a source names one of these weaknesses"),
        row("fix_available", F, "true", "a version that fixes it is known"),
        row("advisory_younger_than", F, "\"7 days\"", "it was published less than this ago"),
        row("advisory_older_than", F, "\"90 days\"", "it was published more than this ago"),
    ]
};

/// Their names.
pub fn names() -> Vec<&'static str> {
    PREDICATES.iter().map(|predicate| predicate.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;

    #[test]
    fn every_predicate_is_read_as_its_row_shows_and_stands_in_the_manual() {
        let manual = include_str!("../../../../docs/policies.md");
        for Predicate { name, example, .. } in PREDICATES {
            let text = format!(
                "[policy]\nname = \"p\"\n[[rule]]\nname = \"r\"\naction = \"deny\"\nwhen = {{ {name} = {example} }}\n"
            );
            assert!(Policy::parse(&text).is_ok(), "{name}: {:?}", Policy::parse(&text));
            assert!(
                manual.contains(&format!("`{name} = {}`", example.replace("\\\"", "\""))),
                "{name} in docs/policies.md"
            );
        }
    }
}
