//! What maps of several forms say together of conda packages.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use airlock_core::advisory::FeedKind;
use airlock_core::ecosystem::Ecosystem;
use airlock_core::spec::Spec;
use airlock_core::version::Order;
use airlock_engine::{explain, feeds};
use airlock_testkit::{Kit, conda, osv};
use serde_json::json;

/// What is found of the one package: the CVE, by which key and in which order.
async fn found(kit: &Kit) -> Vec<(String, String, Order)> {
    kit.judge("main").await;
    let view = kit.view();
    let channel = view.channel("main").await.unwrap().unwrap();
    let spec = Spec::parse(Ecosystem::Conda, "thing").unwrap();
    let artifact = explain::explain(&view, &channel, &spec).await.unwrap().artifacts.remove(0);
    let told = artifact.findings.into_iter().flat_map(|finding| {
        let records = finding.evidence.records.into_iter();
        records.map(move |record| (finding.advisory.clone(), record.via, record.order)).collect::<Vec<_>>()
    });
    told.collect()
}

#[tokio::test]
async fn what_nvd_alone_knows_is_found_through_the_pypi_name_and_the_map_of_products() {
    let kit = Kit::new(&[osv("PYSEC-1", "PyPI", "other", "2", 9.0)]).await;
    kit.identify(&json!({"thing": "the-thing"})).await;
    let mut source = kit.conda_source("source");
    source.add(&conda("thing", "1.0rc1"), &json!({}));
    source.write();
    kit.add_channel("main", Ecosystem::Conda, source.path(), &[]).await;
    kit.sync("main").await;
    let product = json!({"vulnerable": true, "criteria": "cpe:2.3:a:maker:thing:*:*:*:*:*:python:*:*",
        "versionEndExcluding": "1.0"});
    let nvd = json!({"vulnerabilities": [{"cve": {"id": "CVE-2026-7", "vulnStatus": "Analyzed",
        "configurations": [{"nodes": [{"operator": "OR", "cpeMatch": [product]}]}]}}]});
    let add = async |kind, name: &str, text: &str| {
        let path = kit.write(name, text.as_bytes()).display().to_string();
        feeds::add(&kit.station, kind, &path).await.unwrap();
        feeds::update(&kit.station, &[]).await.unwrap();
    };
    add(FeedKind::Nvd, "nvd.json", &nvd.to_string()).await;
    assert_eq!(found(&kit).await, []);
    let rows =
        "vendor\tproduct\tpurl\nmaker\tthing\tpkg:pypi/the_thing\nmaker\tthing\tpkg:github/maker/thing\n";
    add(FeedKind::Identities, "products.tsv", rows).await;
    let through = |via: &str| [("CVE-2026-7".to_owned(), via.to_owned(), Order::Pep440)];
    let through_pypi = "cpe:maker:thing (conda thing, by identities-products-tsv through osv:PyPI/the-thing)";
    assert_eq!(found(&kit).await, through(through_pypi));
    // A second name of one map takes the products of the first away, as no version says any more which it is; that waits
    // where what becomes milder waits.
    feeds::set_loosening(&kit.station, "identities", feeds::Loosening::Ask).await.unwrap();
    kit.identify(&json!({"thing": ["the-thing", "other"]})).await;
    let waiting = async || -> Vec<String> {
        feeds::waiting(&kit.station).await.unwrap().into_iter().map(|w| w.id).collect()
    };
    assert_eq!(waiting().await, ["thing"]);
    let still = found(&kit).await;
    assert!(still.contains(&through(through_pypi)[0]), "{still:?}");
    kit.identify(&json!({"thing": "the-thing"})).await;
    feeds::accept(&kit.station, &feeds::Accepted::default(), "it was a mistake").await.unwrap();
    assert_eq!((waiting().await, found(&kit).await), (vec![], through(through_pypi).to_vec()));
    // One that gems have too is nobody's any longer; another map may still say that it is this package.
    kit.write("products.tsv", format!("{rows}maker\tthing\tpkg:gem/thing\n").as_bytes());
    feeds::update(&kit.station, &[]).await.unwrap();
    assert_eq!(found(&kit).await, []);
    let packages = json!({"schema_version": 4, "packages": {"thing": {"identities": [
        {"kind": "cpe", "value": "cpe:2.3:a:maker:thing"}]}}});
    add(FeedKind::Identities, "packages.json", &packages.to_string()).await;
    let found = found(&kit).await;
    assert_eq!(found, through("cpe:maker:thing (conda thing, by identities-packages)"));
}
