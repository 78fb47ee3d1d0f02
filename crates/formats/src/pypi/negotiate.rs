//! Which form of a Simple page a client gets (RFC 9110 section 12.5.1).

/// A form of a Simple page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `application/vnd.pypi.simple.v1+json`
    Json,
    /// `application/vnd.pypi.simple.v1+html`
    Html,
    /// `text/html`, the same bytes for older clients.
    PlainHtml,
}

impl Form {
    /// The type to answer with, always a concrete one.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/vnd.pypi.simple.v1+json",
            Self::Html => "application/vnd.pypi.simple.v1+html",
            Self::PlainHtml => "text/html; charset=utf-8",
        }
    }
}

/// What we have, best first: of equal wishes plain HTML wins, so that `*/*` gets what PEP 503 promised.
const OFFERS: [(Form, &[&str]); 3] = [
    (Form::PlainHtml, &["text/html"]),
    (Form::Json, &["application/vnd.pypi.simple.v1+json", "application/vnd.pypi.simple.latest+json"]),
    (Form::Html, &["application/vnd.pypi.simple.v1+html", "application/vnd.pypi.simple.latest+html"]),
];

/// Chooses the form by an `Accept` header, absent or not; `None` means 406.
pub fn negotiate(accept: Option<&str>) -> Option<Form> {
    let accept = accept.map(str::trim).filter(|a| !a.is_empty()).unwrap_or("*/*");
    let ranges: Vec<(String, u32)> = accept.split(',').filter_map(range).collect();
    let mut best: Option<(Form, u32, u8)> = None;
    for (form, types) in OFFERS {
        let Some((quality, specific)) = types.iter().filter_map(|t| quality(&ranges, t)).max() else {
            continue;
        };
        if quality > 0 && best.is_none_or(|(_, q, s)| (quality, specific) > (q, s)) {
            best = Some((form, quality, specific));
        }
    }
    best.map(|(form, _, _)| form)
}

/// One media range and its weight in thousandths. A weight that cannot be read counts as none given.
fn range(text: &str) -> Option<(String, u32)> {
    let mut parts = text.split(';').map(str::trim);
    let media = parts.next().filter(|m| m.contains('/'))?.to_ascii_lowercase();
    let weight = parts.find_map(|p| p.strip_prefix("q=").or_else(|| p.strip_prefix("Q=")));
    let weight =
        weight.and_then(|w| w.trim().parse::<f64>().ok()).filter(|w| (0.0..=1.0).contains(w)).unwrap_or(1.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 1000")]
    let thousandths = (weight * 1000.0).round() as u32;
    Some((media, thousandths))
}

/// The weight of the most specific range that covers a type, and how specific it is.
fn quality(ranges: &[(String, u32)], media: &str) -> Option<(u32, u8)> {
    let major = media.split('/').next().unwrap_or_default();
    let specific = |range: &str| match range {
        r if r == media => Some(2),
        r if r.strip_suffix("/*") == Some(major) => Some(1),
        "*/*" => Some(0),
        _ => None,
    };
    let covering = ranges.iter().filter_map(|(r, q)| specific(r).map(|s| (s, *q)));
    covering.max().map(|(specific, quality)| (quality, specific))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_the_form_they_ask_for() {
        const JSON: &str = "application/vnd.pypi.simple.v1+json";
        let table = [
            (None, Some(Form::PlainHtml)),
            (Some(""), Some(Form::PlainHtml)),
            (Some("*/*"), Some(Form::PlainHtml)),
            (Some("text/html"), Some(Form::PlainHtml)),
            (Some("text/*"), Some(Form::PlainHtml)),
            (Some(JSON), Some(Form::Json)),
            (Some("application/vnd.pypi.simple.latest+json"), Some(Form::Json)),
            (Some("application/vnd.pypi.simple.v1+html"), Some(Form::Html)),
            // pip 26.2
            (
                Some(
                    "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01",
                ),
                Some(Form::Json),
            ),
            // uv
            (
                Some(
                    "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01",
                ),
                Some(Form::Json),
            ),
            // Poetry
            (Some("application/vnd.pypi.simple.v1+json, */*;q=0.1"), Some(Form::Json)),
            (Some("text/html;q=0.5, application/vnd.pypi.simple.v1+json;q=0.4"), Some(Form::PlainHtml)),
            (Some("text/html;q=0, */*"), Some(Form::Json)),
            (Some("text/html, application/vnd.pypi.simple.v1+json"), Some(Form::PlainHtml)),
            // browsers
            (Some("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"), Some(Form::PlainHtml)),
            (Some("application/json"), None),
            (Some("application/vnd.pypi.simple.v2+json"), None),
            (Some("text/html;q=0"), None),
            (Some("garbage"), None),
        ];
        for (accept, form) in table {
            assert_eq!(negotiate(accept), form, "{accept:?}");
        }
    }
}
