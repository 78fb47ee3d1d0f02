//! Licences as SPDX expressions (SPDX 2.3, annex D), and the families that policies speak of.
//!
//! Two questions are asked of an expression. *May it be used under these alone?* `MIT OR GPL-3.0-only` may be used under
//! MIT. *Does it need one of these?* It does not need the GPL, since there is another choice; `MIT AND GPL-3.0-only` does.
//! A text that is no expression (`see LICENSE`) answers neither: it is not known, unless a policy names that very text.

use spdx::expression::Expression;
use spdx::{AdditionItem, LicenseItem, LicenseReq, ParseMode};

use crate::pattern::Pattern;
use crate::policy::Truth;

/// Longest licence text that is read as an expression, in bytes.
pub const EXPRESSION_BYTES_MAX: usize = 4096;

/// What a family of licences asks of those who use the software.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// Dedicated to the public, or without any condition.
    PublicDomain,
    /// Naming the author, and little else.
    Permissive,
    /// Changes to the software itself stay under the licence.
    WeakCopyleft,
    /// So does what is built with it and passed on.
    StrongCopyleft,
    /// So does what is offered over a network.
    NetworkCopyleft,
    /// Not free: a contract with a vendor.
    Proprietary,
    /// None of these, or nobody has sorted it.
    Other,
}

/// The families with the patterns of what belongs to them, the most specific first.
const FAMILIES: [(Family, &str); 6] = [
    (
        Family::PublicDomain,
        "CC0-1.0 Unlicense PDDL-1.0 SAX-PD* blessing LicenseRef-Public-Domain CC-PDDC NIST-PD*",
    ),
    (
        Family::NetworkCopyleft,
        "AGPL-* SSPL-* OSL-* RPL-1.* CPAL-1.0 EUPL-* APSL-1.* RPSL-1.0 Parity-* NPOSL-3.0 Watcom-1.0 CAL-1.0*",
    ),
    (
        Family::WeakCopyleft,
        "LGPL-* LGPLLR MPL-* EPL-* CDDL-* CPL-1.0 IPL-1.0 APSL-2.0 CECILL-C MS-RL ErlPL-1.1 SISSL* SPL-1.0 NPL-* \
         Interbase-1.0 Nokia LPL-* gSOAP-1.3b OFL-1.* CERN-OHL-W-* eCos-2.0 wxWindows FDK-AAC QPL-1.0-INRIA* Artistic-1.0* \
         ClArtistic SugarCRM-1.1.3 OCLC-2.0 Ruby TPL-1.0 YPL-* Zimbra-* NGPL RSCPL Motosoto MulanPubL*",
    ),
    (
        Family::StrongCopyleft,
        "GPL-* BSD-Protection MS-PL CECILL-1.* CECILL-2.* Sleepycat QPL-1.0 CC-BY-SA-* GFDL-* CERN-OHL-S-* copyleft-next-* LiLiQ-R* ODbL-1.0 \
         FreeImage MirOS-SA VOSTROM BitTorrent-* TORQUE-1.1 AGPL* TGPPL-1.0 Arphic-1999 Baekmuk-SA NCGL-UK-2.0 \
         CC-BY-NC-SA-* TAPR-OHL-1.0",
    ),
    (
        Family::Permissive,
        "MIT MIT-* MITNFA X11* ISC* BSD-* 0BSD Apache-* Zlib* zlib-acknowledgement BSL-1.0 PSF-2.0 Python-2.0* CNRI-Python* \
         PostgreSQL NCSA AFL-* CC-BY-1.0 CC-BY-2.* CC-BY-3.* CC-BY-4.0 HPND* Libpng libpng-2.0 libtiff IJG* curl OpenSSL* \
         SSLeay* TCL Unicode-* ICU FTL Info-ZIP W3C* WTFPL NTP* OLDAP-* PHP-3.* Artistic-2.0 UPL-1.0 bzip2-1.0.* \
         MulanPSL-* BlueOak-1.0.0 ECL-* EFL-* Fair AML NAIST-2003 Intel ANTLR-PD* ZPL-* Xnet VSL-1.0 Vim TCP-wrappers \
         SMLNJ SGI-B-2.0 Beerware JasPer-2.0 Spencer-* RSA-MD GD FSFAP* FSFUL* Sendmail* Minpack mpich2 Naumen NLOD-* \
         Bitstream-* CUA-OPL-1.0-X Condor-1.1 EUDatagram FreeBSD-DOC JSON Plexus libselinux-1.0 DOC dtoa Entessa \
         LicenseRef-BSD* LicenseRef-MIT*",
    ),
    (Family::Proprietary, "*proprietary* *commercial* LicenseRef-*EULA* *-EULA *End-User-License*"),
];

/// Exceptions that let other software be built with what they stand behind.
const LINKING: [&str; 9] = [
    "Classpath-exception*",
    "GCC-exception*",
    "LLVM-exception",
    "Linux-syscall-note",
    "OpenJDK-assembly-exception*",
    "Autoconf-exception*",
    "Bootloader-exception",
    "Bison-exception*",
    "Universal-FOSS-exception*",
];

impl Family {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::PublicDomain,
        Self::Permissive,
        Self::WeakCopyleft,
        Self::StrongCopyleft,
        Self::NetworkCopyleft,
        Self::Proprietary,
        Self::Other,
    ];

    /// The name in policies, behind `family:`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PublicDomain => "public-domain",
            Self::Permissive => "permissive",
            Self::WeakCopyleft => "weak-copyleft",
            Self::StrongCopyleft => "strong-copyleft",
            Self::NetworkCopyleft => "network-copyleft",
            Self::Proprietary => "proprietary",
            Self::Other => "other",
        }
    }

    /// A licence of it, to try what a rule would say of one.
    pub const fn example(self) -> &'static str {
        match self {
            Self::PublicDomain => "CC0-1.0",
            Self::Permissive => "MIT",
            Self::WeakCopyleft => "MPL-2.0",
            Self::StrongCopyleft => "GPL-3.0-only",
            Self::NetworkCopyleft => "AGPL-3.0-only",
            Self::Proprietary => "LicenseRef-Proprietary",
            Self::Other => "LicenseRef-none-that-is-named",
        }
    }

    /// The family of a licence by its SPDX name.
    pub fn of(name: &str) -> Self {
        table()
            .iter()
            .find(|(_, patterns)| patterns.iter().any(|p| p.matches(name)))
            .map_or(Self::Other, |(f, _)| *f)
    }

    fn of_requirement(requirement: &LicenseReq) -> Self {
        let family = Self::of(&name_of(&requirement.license));
        let exception = requirement.addition.as_ref().map(exception_name);
        let links = exception.is_some_and(|name| LINKING.iter().any(|p| Pattern::new(p).matches(&name)));
        if links && family == Self::StrongCopyleft { Self::WeakCopyleft } else { family }
    }
}

fn table() -> &'static [(Family, Vec<Pattern>)] {
    static TABLE: std::sync::LazyLock<Vec<(Family, Vec<Pattern>)>> = std::sync::LazyLock::new(|| {
        let patterns = |list: &str| list.split_whitespace().map(Pattern::new).collect();
        FAMILIES.iter().map(|(family, list)| (*family, patterns(list))).collect()
    });
    &TABLE
}

fn name_of(item: &LicenseItem) -> String {
    item.to_string()
}

fn exception_name(item: &AdditionItem) -> String {
    item.to_string()
}

/// What a policy names: a licence, with wildcards if wanted, or a family.
#[derive(Debug, Clone, PartialEq)]
pub enum Named {
    /// `family:permissive`
    Family(Family),
    /// `MIT`, `LGPL-*`, or a text that is no SPDX name.
    Licence(Pattern),
}

impl Named {
    /// Reads one; the error is the family that there is not.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.trim().strip_prefix("family:") {
            Some(name) => Family::ALL
                .into_iter()
                .find(|f| f.name() == name)
                .map(Self::Family)
                .ok_or_else(|| name.to_owned()),
            None => Ok(Self::Licence(Pattern::new(text))),
        }
    }

    /// As it is written.
    pub fn text(&self) -> String {
        match self {
            Self::Family(family) => format!("family:{}", family.name()),
            Self::Licence(pattern) => pattern.as_str().to_owned(),
        }
    }

    /// A licence that it means, as far as one is known.
    pub fn example(&self) -> &str {
        match self {
            Self::Family(family) => family.example(),
            Self::Licence(pattern) => pattern.as_str(),
        }
    }

    /// `GPL-3.0` means `GPL-3.0-only` and `GPL-3.0-or-later` too; an exception is named together with its licence.
    fn means(&self, requirement: &LicenseReq) -> bool {
        match self {
            Self::Family(family) => Family::of_requirement(requirement) == *family,
            Self::Licence(pattern) => {
                let name = name_of(&requirement.license);
                let plain = ["-only", "-or-later", "+"].iter().find_map(|end| name.strip_suffix(end));
                let whole = requirement.to_string();
                pattern.matches(&name) || pattern.matches(&whole) || plain.is_some_and(|p| pattern.matches(p))
            }
        }
    }

    fn is_text(&self, text: &str) -> bool {
        match self {
            Self::Family(family) => *family == Family::Proprietary && Family::of(text) == *family,
            Self::Licence(pattern) => pattern.matches(text),
        }
    }
}

/// The expression that a text is, if it is one. Names that are common and no SPDX names are understood, as are small
/// `and` and `or`.
pub fn expression(text: &str) -> Option<Expression> {
    if text.len() > EXPRESSION_BYTES_MAX {
        return None;
    }
    let parse = |text: &str| Expression::parse_mode(text, ParseMode::LAX).ok();
    let words = || text.replace(" and ", " AND ").replace(" or ", " OR ").replace(" with ", " WITH ");
    parse(text).or_else(|| parse(&words())).or_else(|| parse(common(text)?))
}

/// What indexes are full of.
fn common(text: &str) -> Option<&'static str> {
    const TEXTS: [(&str, &str); 12] = [
        ("bsd 3-clause", "BSD-3-Clause"),
        ("bsd-3", "BSD-3-Clause"),
        ("bsd 2-clause", "BSD-2-Clause"),
        ("new bsd", "BSD-3-Clause"),
        ("mit license", "MIT"),
        ("apache 2.0", "Apache-2.0"),
        ("apache license 2.0", "Apache-2.0"),
        ("apache-2.0 license", "Apache-2.0"),
        ("public domain", "LicenseRef-Public-Domain"),
        ("public-domain", "LicenseRef-Public-Domain"),
        ("public-domain dedictation", "LicenseRef-Public-Domain"),
        ("proprietary", "LicenseRef-Proprietary"),
    ];
    let lower = text.trim().to_lowercase();
    TEXTS.iter().find(|(known, _)| *known == lower).map(|(_, spdx)| *spdx)
}

/// Whether the software may be used under these licences alone.
pub fn allows(text: &str, named: &[Named]) -> Truth {
    let any = |requirement: &LicenseReq| named.iter().any(|one| one.means(requirement));
    if named.iter().any(|one| one.is_text(text.trim())) {
        return Truth::True;
    }
    expression(text).map_or(Truth::Unknown, |expression| expression.evaluate(any).into())
}

/// Whether it cannot be used without one of these.
pub fn needs(text: &str, named: &[Named]) -> Truth {
    let any = |requirement: &LicenseReq| named.iter().any(|one| one.means(requirement));
    if named.iter().any(|one| one.is_text(text.trim())) {
        return Truth::True;
    }
    expression(text).map_or(Truth::Unknown, |expression| (!expression.evaluate(|r| !any(r))).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(list: &[&str]) -> Vec<Named> {
        list.iter().map(|one| Named::parse(one).unwrap()).collect()
    }

    #[test]
    fn a_choice_may_be_used_under_one_and_a_sum_needs_all() {
        use Truth::{False, True, Unknown};
        for (text, list, may, must) in [
            ("MIT", &["MIT"][..], True, True),
            ("mit", &["MIT"], True, True),
            ("MIT OR GPL-3.0-only", &["MIT"], True, False),
            ("MIT OR GPL-3.0-only", &["GPL-3.0"], True, False),
            ("MIT AND GPL-3.0-only", &["MIT"], False, True),
            ("MIT AND GPL-3.0-only", &["GPL-3.0"], False, True),
            ("MIT AND (BSD-2-Clause OR Apache-2.0)", &["MIT", "BSD-*"], True, True),
            ("GPL-2.0-or-later", &["GPL-3.0"], False, False),
            ("GPL-3.0-or-later", &["GPL-3.0"], True, True),
            ("GPL-3.0-only WITH GCC-exception-3.1", &["family:weak-copyleft"], True, True),
            ("GPL-3.0-only WITH GCC-exception-3.1", &["family:strong-copyleft"], False, False),
            ("GPL-3.0-only WITH GCC-exception-3.1", &["GPL-3.0-only WITH GCC-*"], True, True),
            ("AGPL-3.0-or-later", &["family:network-copyleft"], True, True),
            ("LGPL-2.1-or-later OR MPL-1.1", &["family:weak-copyleft"], True, True),
            ("BSD 3-Clause", &["family:permissive"], True, True),
            ("Apache 2.0", &["Apache-2.0"], True, True),
            ("MIT and BSD-3-Clause", &["family:permissive"], True, True),
            ("see LICENSE.txt", &["MIT"], Unknown, Unknown),
            ("see LICENSE.txt", &["see LICENSE*"], True, True),
            ("Proprietary", &["family:proprietary"], True, True),
            ("Some Commercial Licence", &["family:proprietary"], True, True),
            ("LicenseRef-Something", &["family:permissive"], False, False),
        ] {
            assert_eq!(
                (allows(text, &named(list)), needs(text, &named(list))),
                (may, must),
                "{text} {list:?}"
            );
        }
    }

    /// The list of those who keep SPDX's says of some that they are copyleft: none of them is sorted under what asks less.
    #[test]
    fn what_others_call_copyleft_is_nowhere_called_permissive() {
        let all = spdx::identifiers::LICENSES.iter().map(|licence| licence.name);
        let copyleft = all.filter(|name| spdx::license_id(name).is_some_and(spdx::LicenseId::is_copyleft));
        let mild = |name: &&str| matches!(Family::of(name), Family::Permissive | Family::PublicDomain);
        assert_eq!(copyleft.filter(mild).collect::<Vec<_>>(), Vec::<&str>::new());
        for family in Family::ALL {
            assert_eq!(Family::of(family.example()), family, "{}", family.example());
            assert_eq!(Named::parse(&format!("family:{}", family.name())), Ok(Named::Family(family)));
        }
    }
}
