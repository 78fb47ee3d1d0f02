//! Rows of vendor, product and purl.

use std::io::BufRead;

use airlock_core::identity::Identity;
use airlock_core::identity::products::Products;

use super::{Identities, mapping, purl};
use crate::feeds::{FeedError, bounded_line};
use crate::limits;

/// What stands above the rows of this form.
const HEADER: &str = "vendor\tproduct\tpurl";

pub(super) fn read(reader: &mut impl BufRead, provenance: &str) -> Result<Identities, FeedError> {
    let (mut out, mut products) = (Identities::default(), Products::default());
    let (mut line, mut number, mut good) = (Vec::new(), 0u64, 0u64);
    while let Some(fits) = bounded_line(reader, &mut line, limits::IDENTITY_ROW_BYTES_MAX)? {
        number += 1;
        let text =
            std::str::from_utf8(&line).ok().filter(|_| fits).map(|text| text.trim_end_matches(['\r', '\n']));
        if text.is_some_and(|text| text.is_empty() || (number == 1 && text == HEADER)) {
            continue;
        }
        match text.ok_or("it is too long, or not UTF-8").and_then(|text| note(&mut products, text)) {
            Ok(()) => good += 1,
            Err(reason) => out.leave_out(&format!("row {number}"), reason),
        }
        if products.len() > limits::IDENTITIES_MAX {
            return Err(FeedError::Content(format!("it has more than {} products", limits::IDENTITIES_MAX)));
        }
    }
    if good == 0 {
        let why = "it is neither a map of names nor rows of vendor, product and purl";
        return Err(FeedError::Content(why.to_owned()));
    }
    for (package, keys) in products.links() {
        if keys.len() > limits::IDENTITY_KEYS_MAX {
            let most = limits::IDENTITY_KEYS_MAX;
            out.leave_out(package.as_str(), format!("it is more than {most} products"));
        } else {
            let keys = keys.into_iter().map(|key| mapping(key, provenance));
            out.map.insert(package.as_str().to_owned(), Identity::of(keys.collect()));
        }
    }
    Ok(out)
}

fn note(products: &mut Products, text: &str) -> Result<(), &'static str> {
    let mut columns = text.split('\t');
    let columns = (columns.next(), columns.next(), columns.next(), columns.next());
    let (Some(vendor), Some(product), Some(text), None) = columns else {
        return Err("it is not `vendor, product, purl` with tabs between them");
    };
    let is_name = |name: &str| {
        !name.is_empty()
            && name.len() <= limits::IDENTITY_NAME_BYTES_MAX
            && !name.contains(|c: char| c.is_whitespace() || c.is_control())
    };
    if !is_name(vendor) || !is_name(product) {
        return Err("its vendor or product is no name");
    }
    let purl = purl(text).ok_or("its purl is none")?;
    // NVD's own are in small letters: names of CPEs compare without regard to case.
    products.note(&vendor.to_lowercase(), &product.to_lowercase(), &purl.kind, &purl.name);
    Ok(())
}
