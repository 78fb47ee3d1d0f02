//! The OSV API over the station's own knowledge.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use airlock_core::advisory::FeedKind;
use airlock_core::decision::Scope;
use airlock_core::matching::Status;
use airlock_engine::{decide, feeds};
use airlock_testkit::{Kit, osv};
use axum::body::{Body, to_bytes};
use axum::http::Request;
use common::{Server, against_idna, server};
use serde_json::{Value, json};

async fn post(server: &Server, path: &str, body: Body) -> (u16, Value) {
    let request = Request::post(path).header("content-type", "application/json").body(body).unwrap();
    let response = server.site.answer(request).await;
    let status = response.status().as_u16();
    let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap())
}

async fn query(server: &Server, query: &Value) -> (u16, Value) {
    post(server, "/osv/v1/query", Body::from(query.to_string())).await
}

fn package(ecosystem: &str, name: &str, version: &str) -> Value {
    json!({"package": {"ecosystem": ecosystem, "name": name}, "version": version})
}

fn ids(answer: &Value) -> Vec<&str> {
    let vulns = answer["vulns"].as_array().map(Vec::as_slice).unwrap_or_default();
    vulns.iter().map(|v| v["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_scanner_is_told_what_the_station_knows_in_the_words_of_the_publisher() {
    let server = server(&[against_idna(), osv("PYSEC-1", "PyPI", "other", "2", 5.0)]).await;
    let (status, found) = query(&server, &package("PyPI", "IDNA", "3.6")).await;
    assert_eq!((status, ids(&found)), (200, vec!["CVE-2024-3651"]));
    let ranges = &found["vulns"][0]["affected"][0]["ranges"];
    assert_eq!(ranges[0]["events"], json!([{"introduced": "0"}, {"fixed": "3.7"}]));
    assert_eq!(found["coverage"], "verified");
    for (of, expected) in [
        (package("PyPI", "idna", "3.7"), vec![]),
        (json!({"package": {"ecosystem": "PyPI", "name": "idna"}}), vec!["CVE-2024-3651"]),
        (json!({"package": {"purl": "pkg:pypi/idna@3.6"}}), vec!["CVE-2024-3651"]),
        (json!({"package": {"purl": "pkg:pypi/idna"}, "version": "3.7"}), vec![]),
        // conda packages are known through their identities.
        (package("conda", "idna", "3.6"), vec!["CVE-2024-3651"]),
    ] {
        let (status, found) = query(&server, &of).await;
        assert_eq!((status, ids(&found)), (200, expected), "{of}");
    }
    // What no identity leads to is not said to be clean.
    let (_, found) = query(&server, &package("conda", "x264", "1")).await;
    assert_eq!(found, json!({"vulns": [], "coverage": "unknown"}));
    let record = server.get("/osv/v1/vulns/PYSEC-1").await;
    assert_eq!((record.status.as_u16(), &record.json()["id"]), (200, &json!("PYSEC-1")));
    assert_eq!(server.status("/osv/v1/vulns/PYSEC-2").await, 404);
    assert_eq!(server.status("/osv/v1/query").await, 405);
}

#[tokio::test]
async fn many_packages_are_asked_for_at_once_and_pages_follow_each_other() {
    let many: Vec<Value> = (0..1500).map(|n| osv(&format!("X-{n:04}"), "PyPI", "many", "2", 5.0)).collect();
    let server = server(&many).await;
    let asked = package("PyPI", "many", "1");
    let batch = json!({"queries": [asked, package("PyPI", "none", "1"), asked]});
    let (status, found) = post(&server, "/osv/v1/querybatch", Body::from(batch.to_string())).await;
    assert_eq!(status, 200);
    let results = found["results"].as_array().unwrap();
    let counts: Vec<usize> = results.iter().map(|r| ids(r).len()).collect();
    assert_eq!(counts, [1000, 0, 0]);
    assert!(results[0]["vulns"][0]["modified"].is_string());
    assert_eq!(
        (&results[0]["next_page_token"], &results[2]["next_page_token"]),
        (&json!("1000"), &json!("0"))
    );
    // One after the other, every record comes once.
    let (mut all, mut token) = (Vec::new(), Value::Null);
    loop {
        let mut next = asked.clone();
        next["page_token"] = token.clone();
        let (_, found) = query(&server, &next).await;
        all.extend(ids(&found).into_iter().map(str::to_owned));
        token = found["next_page_token"].clone();
        if token.is_null() {
            break;
        }
    }
    let expected: Vec<String> = (0..1500).map(|n| format!("X-{n:04}")).collect();
    assert_eq!(all, expected);
}

#[tokio::test]
async fn c_libraries_are_known_by_what_nvd_says_of_their_products() {
    let kit = Kit::new(&[]).await;
    let nvd = json!({"vulnerabilities": [{"cve": {"id": "CVE-2022-0778", "lastModified": "2022-08-19T12:28:00.000",
        "descriptions": [{"lang": "en", "value": "a loop"}],
        "metrics": {"cvssMetricV31": [{"source": "nvd", "cvssData": {"vectorString": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H"}}]},
        "configurations": [{"nodes": [{"operator": "OR", "negate": false, "cpeMatch": [{"vulnerable": true,
            "criteria": "cpe:2.3:a:openssl:openssl:*:*:*:*:*:*:*:*", "versionStartIncluding": "1.1.1", "versionEndExcluding": "1.1.1n"}]}]}]}}]});
    let path = kit.write("nvd.json", nvd.to_string().as_bytes());
    feeds::add(&kit.station, FeedKind::Nvd, &path.display().to_string()).await.unwrap();
    feeds::update(&kit.station, &[]).await.unwrap();
    let server = Server::over(kit);
    let (_, found) = query(&server, &package("conda", "openssl", "1.1.1k")).await;
    assert_eq!((ids(&found), &found["coverage"]), (vec!["CVE-2022-0778"], &json!("verified")));
    let record = &found["vulns"][0];
    assert_eq!(record["severity"][0]["type"], "CVSS_V3");
    assert_eq!((&record["summary"], &record["modified"]), (&json!("a loop"), &json!("2022-08-19T12:28:00Z")));
    let (_, found) = query(&server, &package("conda", "openssl", "1.1.1n")).await;
    assert_eq!(ids(&found), [""; 0]);
}

#[tokio::test]
async fn questions_that_make_no_sense_are_refused_and_no_knowledge_is_no_answer() {
    let server = server(&[against_idna()]).await;
    for (body, status) in [
        ("{", 400),
        ("{}", 400),
        (r#"{"commit":"6879efc2c1596d11a6a6ad296f80063b558d5e0f"}"#, 400),
        (r#"{"package":{"name":"idna"}}"#, 400),
        (r#"{"package":{"purl":"nonsense"}}"#, 400),
        (r#"{"package":{"purl":"pkg:npm/%40babel/traverse@1"}}"#, 400),
        (r#"{"package":{"purl":"pkg:pypi/idna@1"},"version":"2"}"#, 400),
        (r#"{"package":{"name":"../x","ecosystem":"PyPI"},"version":"1"}"#, 400),
        (r#"{"package":{"name":"idna","ecosystem":"PyPI"},"page_token":"x"}"#, 400),
    ] {
        let (found, problem) = post(&server, "/osv/v1/query", Body::from(body)).await;
        assert_eq!(found, status, "{body} {problem}");
        assert!(problem["detail"].is_string());
    }
    let (status, _) = post(&server, "/osv/v1/query", Body::from(" ".repeat((256 << 10) + 1))).await;
    assert_eq!(status, 413);
    let long = package("PyPI", "idna", &"1".repeat(201));
    assert_eq!(query(&server, &long).await.0, 400);
    let long = json!({"package": {"purl": format!("pkg:pypi/idna@{}", "1".repeat(201))}});
    assert_eq!(query(&server, &long).await.0, 400);
    let many = json!({"queries": vec![package("PyPI", "idna", "1"); 1001]});
    assert_eq!(post(&server, "/osv/v1/querybatch", Body::from(many.to_string())).await.0, 400);
    // Past what there is lies nothing.
    let mut late = package("PyPI", "idna", "3.6");
    late["page_token"] = json!(usize::MAX.to_string());
    assert_eq!(query(&server, &late).await.1, json!({"vulns": [], "coverage": "verified"}));

    let empty = Kit::new(&[]).await;
    let set = empty.station.move_ref("advisories", None).await.unwrap();
    empty.station.commit(vec![set], "test", "advisories", &json!({})).await.unwrap();
    let server = Server::over(empty);
    let (status, problem) = query(&server, &package("PyPI", "idna", "3.6")).await;
    assert_eq!(status, 503);
    assert!(problem["detail"].as_str().unwrap().contains("no feed of advisories was read here"));
}

#[tokio::test]
async fn a_scanner_that_asks_for_a_channel_is_not_told_what_was_cleared_there() {
    let mut server = server(&[against_idna(), osv("PYSEC-1", "PyPI", "idna", "3.7", 5.0)]).await;
    let idna = package("PyPI", "idna", "3.6");
    let all = vec!["CVE-2024-3651", "PYSEC-1"];
    assert_eq!(ids(&of_channel(&server, "py", &idna).await.1), all);
    let ruling = ("CVE-2024-3651", Status::Cleared);
    let scope = Scope::of("py", "idna");
    decide::status(&server.kit.station, scope, ruling, None, "not here", None).await.unwrap();
    server.kit.judge("py").await;
    server.refresh();
    assert_eq!(ids(&of_channel(&server, "py", &idna).await.1), ["PYSEC-1"]);
    assert_eq!(ids(&query(&server, &idna).await.1), all, "the station's knowledge is as it was");
    let batch = json!({"queries": [idna, package("PyPI", "Idna", "3.6.0")]});
    let (_, found) = post(&server, "/osv/py/v1/querybatch", Body::from(batch.to_string())).await;
    for result in found["results"].as_array().unwrap() {
        assert_eq!(ids(result), ["PYSEC-1"]);
    }
    // Of a version that the channel does not have nobody ruled anything.
    assert_eq!(ids(&of_channel(&server, "py", &package("PyPI", "idna", "1.0")).await.1), all);
    assert_eq!(ids(&of_channel(&server, "main", &package("conda", "idna", "3.6")).await.1), all);
    let (status, found) = of_channel(&server, "main", &idna).await;
    assert_eq!(status, 400, "{found}");
    assert!(found["detail"].as_str().unwrap().contains("has no packages of PyPI"), "{found}");
    assert_eq!(of_channel(&server, "none", &idna).await.0, 404);
    assert_eq!(server.status("/osv/py/v1/vulns/PYSEC-1").await, 200);
    assert_eq!(server.status("/osv/none/v1/vulns/PYSEC-1").await, 404);
}

async fn of_channel(server: &Server, channel: &str, of: &Value) -> (u16, Value) {
    post(server, &format!("/osv/{channel}/v1/query"), Body::from(of.to_string())).await
}
